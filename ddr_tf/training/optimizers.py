"""The optimizers: Adam, as in the paper, and Muon, which learns in fewer steps."""

import functools
from typing import Any

import keras
import tensorflow as tf

from ddr_tf.config import configurable
from ddr_tf.errors import UserError

Rate = float | keras.optimizers.schedules.LearningRateSchedule
MAX_ITERATIONS = 5  # of Muon; one multiplies the rounding errors of the smallest singular values by twelve
MIN_SIDE = 8  # Muon takes matrices with more rows and columns than this; the channels of frames, and z, have fewer


def _apply_adam(
    optimizer: keras.optimizers.Optimizer,
    betas: tuple[float, float],
    moments: tuple[keras.Variable, keras.Variable],
    gradient: tf.Tensor,
    variable: tf.Variable,
    learning_rate: tf.Tensor,
) -> None:
    """One update of Adam, in one pass over the weight and its moments instead of a dozen."""
    step = tf.cast(optimizer.iterations + 1, tf.float32)
    tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,
        m=moments[0].value.handle,
        v=moments[1].value.handle,
        beta1_power=tf.pow(betas[0], step),
        beta2_power=tf.pow(betas[1], step),
        lr=learning_rate,
        beta1=betas[0],
        beta2=betas[1],
        epsilon=optimizer.epsilon,
        grad=gradient,
    )


@configurable(not_in_gin=("learning_rate", "name"))
@keras.saving.register_keras_serializable(package="ddr_tf")
class Adam(keras.optimizers.Adam):
    """Keras's Adam to rounding, and faster; of float32 weights.

    (Kingma & Ba, "Adam: A Method for Stochastic Optimization", 2015; epsilon is the "epsilon hat" of its Section 2.)
    """

    def __init__(
        self,
        learning_rate: Rate,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        name: str = "adam",
    ) -> None:
        """Args: as of Keras's Adam."""
        super().__init__(learning_rate, beta_1, beta_2, epsilon, name=name)

    def get_config(self) -> dict[str, Any]:
        """The arguments of `__init__`."""
        config = super().get_config()
        return {key: config[key] for key in ("learning_rate", "beta_1", "beta_2", "epsilon", "name")}

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Updates one weight and its moments in place; called by Keras on every device."""
        index = self._get_variable_index(variable)
        moments = self._momentums[index], self._velocities[index]
        _apply_adam(self, (self.beta_1, self.beta_2), moments, gradient, variable, learning_rate)


@configurable(not_in_gin=("learning_rate", "name"))
@keras.saving.register_keras_serializable(package="ddr_tf")
class Muon(keras.optimizers.Muon):
    """Muon for the kernels of convolutions and dense layers, Adam for everything else.

    Muon replaces the momentum of a matrix by the orthogonal matrix that is nearest to it, by Newton-Schulz
    iterations (Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024), here times
    0.2 sqrt(max(rows, columns)), with which it takes Adam's learning rates (Liu et al., "Muon is Scalable for LLM
    Training", 2025, Section 2.2). The kernel of a convolution, which Keras's leaves to Adam, is a matrix whose
    columns are its last axis. Kernels with a side of at most `MIN_SIDE`, such as convolutions at the frames themselves
    and layers from and to the two dimensions of z, are left to Adam. No weight decay.

    Three iterations, not the usual five, learnt as fast in trials and make a step shorter: they take 2 r^2 c + 9 r^3
    multiply-adds for a matrix of r x c, r <= c, however few the frames of a step. Where these are few, wide dense
    layers are expensive.
    """

    def __init__(
        self,
        learning_rate: Rate,
        momentum: float = 0.95,
        ns_steps: int = 3,
        epsilon: float = 1e-7,
        ns_dtype: str = "float32",
        name: str = "muon",
    ) -> None:
        """Builds the optimizer.

        Args: as of Keras's Muon; `ns_steps` are the iterations, `epsilon` is Adam's. `ns_dtype` is the dtype of the
          iterations: "float32", or "bfloat16", as their authors use it, which is faster where the processor has it.
        """
        if ns_dtype not in ("float32", "bfloat16"):
            raise UserError(f"Muon.ns_dtype must be float32 or bfloat16, got {ns_dtype!r}.")
        if not 1 <= ns_steps <= MAX_ITERATIONS:
            raise UserError(f"Muon.ns_steps must be 1 to {MAX_ITERATIONS}, got {ns_steps}.")
        fixed = dict(weight_decay=None, adam_weight_decay=None, rms_rate=None)
        super().__init__(learning_rate, momentum=momentum, ns_steps=ns_steps, epsilon=epsilon, name=name, **fixed)
        self.ns_dtype = ns_dtype

    def get_config(self) -> dict[str, Any]:
        """The arguments of `__init__`."""
        config = super().get_config() | {"ns_dtype": self.ns_dtype}
        return {key: config[key] for key in ("learning_rate", "momentum", "ns_steps", "epsilon", "ns_dtype", "name")}

    def _should_use_adamw(self, variable: tf.Variable) -> bool:
        return len(variable.shape) < 2 or min(variable.shape[-2:]) <= MIN_SIDE

    def _adamw_update_step(
        self,
        gradient: tf.Tensor,
        variable: tf.Variable,
        learning_rate: tf.Tensor,
        m: keras.Variable,
        v: keras.Variable,
    ) -> None:
        _apply_adam(self, (self.adam_beta_1, self.adam_beta_2), (m, v), gradient, variable, learning_rate)

    def zeropower_via_newtonschulz5(self, x: tf.Tensor, steps: int) -> tf.Tensor:
        """The scaled orthogonal kernel that is nearest to `x`, float `[h, w, I, O]` or `[I, O]`; called by Keras.

        What Keras's iterations compute, X <- p(X X^T) X with p(G) = a I + b G + c G^2, but on the smaller side alone:
        one takes G = X X^T, or X^T X if X is tall, to p(G) G p(G), and only the product of all p(G) meets X.
        """
        matrix = tf.cast(tf.reshape(x, [-1, x.shape[-1]]), self.ns_dtype)
        tall = matrix.shape[0] > matrix.shape[1]
        gram = tf.matmul(matrix, matrix, transpose_a=tall, transpose_b=not tall)
        squared_norm = tf.linalg.trace(tf.cast(gram, tf.float32)) + 1e-14  # a gradient of zeros stays one
        gram /= tf.cast(squared_norm, self.ns_dtype)
        a, b, c = (tf.constant(factor, self.ns_dtype) for factor in (self.muon_a, self.muon_b, self.muon_c))
        first, polynomials = a * tf.eye(gram.shape[0], dtype=self.ns_dtype), []
        for _ in range(steps):
            polynomial = first + b * gram + c * gram @ gram
            polynomials.append(polynomial)
            gram = polynomial @ gram @ polynomial
        factor = functools.reduce(tf.matmul, polynomials)
        orthogonal = tf.cast(matrix @ factor if tall else factor @ matrix, tf.float32)
        return tf.reshape(0.2 * max(matrix.shape) ** 0.5 * tf.math.rsqrt(squared_norm) * orthogonal, x.shape)
