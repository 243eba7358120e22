"""Adam whose update of a weight is one operation."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="ddr_tf")
class FusedAdam(keras.optimizers.Adam):
    """Keras's Adam to rounding, in one pass over each weight and its moments instead of a dozen.

    (Kingma & Ba, "Adam: A Method for Stochastic Optimization", 2015; "epsilon hat" of its Section 2.)
    """

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Updates one weight and its moments in place; called by Keras on every device."""
        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(self.beta_1, step),
            beta2_power=tf.pow(self.beta_2, step),
            lr=learning_rate,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )
