import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from PIL import Image

from ddr_tf.pictures import contact_sheets, plots
from ddr_tf.pictures.plots import Label


def texts(figure):
    figure.draw_without_rendering()
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


def test_extremes_are_the_highest_maxima_that_are_far_apart():
    values = np.sin(np.linspace(0, 6 * np.pi, 61)) - np.linspace(0, 0.3, 61)  # maxima at 5, 25 and 45, falling
    np.testing.assert_array_equal(plots.find_extremes(values, 2, apart=5), [5, 25])
    np.testing.assert_array_equal(plots.find_extremes(values, 9, apart=5), [5, 25, 45])
    np.testing.assert_array_equal(plots.find_extremes(values, 9, apart=25), [5])
    np.testing.assert_array_equal(plots.find_extremes(np.arange(9.0), 4, apart=1), [8])
    np.testing.assert_array_equal(plots.find_extremes(np.zeros(7), 9, apart=2), [0, 3, 6])


def test_the_plane_has_a_tick_at_the_middle_of_each_frame():
    random = np.random.RandomState(0)
    planes, real = random.uniform(size=(2, 9, 9, 16, 16, 3)), random.uniform(size=(2, 5, 16, 16, 3))
    ticks = np.stack([np.stack([np.linspace(-1, 1, 9), np.linspace(3, 5, 9)])] * 2)
    figure = plots.draw_planes(planes, real, ["a", "b"], ticks, (0, 2))
    first = figure.axes[1]
    assert [text.get_text() for text in first.get_xticklabels()] == ["-1.0", "-0.5", "0.0", "0.5", "1.0"]
    assert [text.get_text() for text in first.get_yticklabels()] == ["3.0", "3.5", "4.0", "4.5", "5.0"]
    assert (first.get_xlabel(), first.get_ylabel()) == ("$z_{1}$", "$z_{3}$")
    sheet = first.images[0].get_array()
    left, bottom = round(first.get_xticks()[0]), round(first.get_yticks()[0])
    shown = np.round(planes[0, -1, 0, 8, 8] * 255)  # the last row has the least z_3
    np.testing.assert_array_equal(sheet[bottom, left], shown)


def test_the_timeline_shows_the_frames_that_it_is_given_at_their_places():
    frames = np.random.RandomState(0).uniform(size=(3, 16, 16, 1))
    number, mean = np.arange(0, 20, 2), np.sin(np.arange(10.0))
    high, low = {2: frames[0], 8: frames[1]}, {5: frames[2]}
    figure = plots.draw_timeline(number, mean, np.full(10, 0.1), (0.0, 1.0), high, low, 1)
    shown = [image.get_array()[2:-2:4, 2:-2:4, 0] for image in figure.findobj(AxesImage)]
    for image, frame in zip(shown, frames, strict=True):
        np.testing.assert_array_equal(image, np.round(frame[..., 0] * 255))
    assert {"4", "16", "10", "$z_{2}$"} <= set(texts(figure))
    marks = [line.get_xydata()[0].tolist() for line in figure.axes[1].lines[1:]]
    assert marks == [[number[place], mean[place]] for place in (2, 8, 5)]


def test_the_scatter_tells_classes_quantities_and_what_is_unknown():
    points = np.random.RandomState(0).normal(size=(40, 2))
    mood = np.arange(40) % 3 - 1
    angle = np.where(np.arange(40) < 10, np.nan, np.arange(40.0))
    many = np.array([f"name {number}" for number in range(40)])
    labels = {"mood": Label(mood, ["glad", "sad"]), "angle": Label(angle, None), "who": Label(many, None)}
    figure = plots.draw_scatter(points, labels, (0, 1))
    found = texts(figure)
    assert {"glad", "sad", "mood", "angle", "who (40 values)"} <= set(found)
    assert "name 3" not in found
    moods, angles, who = figure.axes[:3]
    (drawn,) = [
        each for each in moods.collections if isinstance(each, PathCollection) and len(each.get_offsets()) == 40
    ]
    colours = drawn.get_facecolors()
    np.testing.assert_allclose(colours[mood == -1, :3], float(plots.UNKNOWN))
    assert len(np.unique(colours, axis=0)) == 3
    assert [len(each.get_offsets()) for each in angles.collections] == [10, 30]
    assert len(np.unique(who.collections[0].get_facecolors(), axis=0)) == 40
    assert len(figure.axes) == 4  # one colour bar


def test_the_curves_are_the_lines_of_the_log():
    names = list(plots.CURVES)
    lines = [
        {"step": step, "split": "train", "minutes": step / 100, "kl_weight": min(1, step / 200)}
        | {name: 10.0 + step / 100 + place for place, name in enumerate(names)}
        for step in (100, 200, 300)
    ]
    lines.append({"step": 300, "split": "held_out", "minutes": 3.0} | {name: 7.0 for name in names})
    panels = plots.draw_training(lines).axes[:4]
    for place, axes in enumerate(panels):
        train, held_out, weight = axes.lines
        np.testing.assert_array_equal(train.get_xydata(), [[s, 10 + s / 100 + place] for s in (100, 200, 300)])
        np.testing.assert_array_equal(held_out.get_xydata(), [[300, 7]])
        assert weight.get_xdata()[0] == 200  # where the weight of the KL terms is 1
    (minutes,) = panels[0].child_axes
    for place, words in zip(minutes.get_xticks(), minutes.get_xticklabels(), strict=True):
        assert place == pytest.approx(100 * float(words.get_text()))


def test_learning_curves_are_the_held_out_lines_over_minutes():
    def log(start):
        return [{"minutes": m, "elbo": start + m, "reconstruction_excess": start - m} for m in (1, 2, 3)]

    runs = {"_of two": [log(10), log(20)]} | {f"of $one {number}": [log(30 + number)] for number in range(10)}
    figure = plots.draw_learning_curves(runs)
    for panel, sign in zip(figure.axes, (1, -1), strict=True):
        for line, start in zip(panel.lines, (10, 20, *range(30, 40)), strict=True):
            np.testing.assert_array_equal(line.get_xydata(), [[m, start + sign * m] for m in (1, 2, 3)])
        looks = [(line.get_color(), line.get_linestyle()) for line in panel.lines]
        assert looks[0] == looks[1] and len(set(looks)) == 11
        assert panel.get_xlabel() == "minutes of training"
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert shown == [name.replace("$", r"\$") for name in runs]
    assert [line.get_color() for line in figure.legends[0].get_lines()] == [
        line.get_color() for line in panel.lines[1:]
    ]


@pytest.mark.parametrize("channels", [1, 3])
def test_sheets_of_grey_and_colour_with_and_without_truth(channels):
    frames = np.random.RandomState(0).uniform(size=(3, 3, 16, 32, channels))
    with_truth, without = (plots.draw_swaps(frames[0], frames, truth) for truth in (frames, None))
    assert "true frames\n$z$ of" in texts(with_truth)
    assert "true frames\n$z$ of" not in texts(without)
    diagonal = with_truth.axes[0].images[0].get_array()
    assert diagonal.shape == contact_sheets.grid(np.zeros((4, 4, 16, 32, channels)), (0, 0)).shape
    for figure in (plots.draw_samples(frames), plots.draw_interpolations(frames, frames, (frames[:, :2],) * 2)):
        assert figure.get_size_inches()[0] == plots.TEXT_WIDTH
        assert len(figure.findobj(AxesImage)) >= 1


def test_files_have_true_type_letters_no_dates_and_the_same_bytes(tmp_path):
    def draw(folder):
        folder.mkdir()
        with plots.style():
            figure = plots.draw_samples(np.random.RandomState(0).uniform(size=(2, 3, 16, 16, 1)))
            return [path.read_bytes() for path in plots.save_plot(figure, folder / "a.b", dpi=80)]

    first, second = draw(tmp_path / "first"), draw(tmp_path / "second")
    assert first == second
    png, pdf = first
    assert png.startswith(b"\x89PNG") and pdf.startswith(b"%PDF")
    assert b"CIDFontType2" in pdf and b"/Type3" not in pdf
    assert b"CreationDate" not in pdf
    assert (tmp_path / "first/a.b.png").exists()
    with Image.open(tmp_path / "first/a.b.png") as image:
        assert image.width == round(80 * plots.TEXT_WIDTH)


def test_frames_are_embedded_pixel_by_pixel(tmp_path):
    figure = Figure((2, 2))
    plots._show(figure, np.zeros((68, 68, 3), np.uint8), 0, 0, 2)
    _, pdf = plots.save_plot(figure, tmp_path / "x", dpi=300)
    assert b"/Width 68" in pdf.read_bytes()


def test_gifs_loop_and_keep_colours(tmp_path):
    film = np.zeros((5, 8, 8, 3), np.uint8)
    film[:, :, :4] = [200, 30, 60]
    film[:, 0, 0, 1] = np.arange(0, 250, 50)
    plots.save_gif(film, tmp_path / "x.gif")
    with Image.open(tmp_path / "x.gif") as image:
        assert (image.n_frames, image.info["loop"], image.info["duration"]) == (5, 0, plots.GIF_MILLISECONDS)
        for number in range(5):
            image.seek(number)
            np.testing.assert_array_equal(np.array(image.convert("RGB")), film[number])
