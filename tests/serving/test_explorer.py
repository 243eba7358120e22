"""The explorer, in a headless Chromium."""

import base64
import copy
import csv
import io
import json
import re
import statistics
import threading
import time

import aiohttp
import numpy as np
import pytest
from aiohttp import web
from PIL import Image

from chromium import Page, program
from conftest import RandomDataset, draw_image, running
from ddr_tf.model.ddr import DDR
from ddr_tf.serving.client import Client
from ddr_tf.serving.examples import write_examples
from ddr_tf.serving.exporting import write_saved_model
from ddr_tf.serving.limits import Limits
from ddr_tf.serving.servable import Servable
from ddr_tf.serving.server import EXPLORER, PAGES, application
from tiny import SIZES

pytestmark = pytest.mark.skipif(program() is None, reason="there is no Chromium to show the page in")

PIXELS = "Array.from(document.getElementById('frame').getContext('2d').getImageData(0, 0, 16, 16).data)"
Z = "document.getElementById('z').textContent"
READY = "document.querySelectorAll('#swaps img').length === 36 && document.getElementById('latency').textContent"
MESSAGES = "document.getElementById('errors').innerText"


@pytest.fixture(scope="module")
def browser():
    with Page() as page:
        page.window(1100, 900)
        yield page


def ready(page, url):
    page.events.clear()
    page.open(url)
    page.wait(READY)
    return page


@pytest.fixture
def page(browser, server_url):
    """The page with two sampled sequences; what went wrong in it fails the test."""
    ready(browser, f"{server_url}/")
    yield browser
    browser.js("0")  # takes in what has been told so far
    thrown = [event for name, event in browser.events if name == "Runtime.exceptionThrown"]
    logged = [event["entry"] for name, event in browser.events if name == "Log.entryAdded"]
    wrong = thrown + [entry for entry in logged if entry["level"] == "error"]
    assert wrong == [], wrong


def numbers(text):
    return [float(number) for number in re.findall(r"-?[\d.]+", text.replace("\N{MINUS SIGN}", "-"))]


def shown_z(page):
    return np.array(numbers(page.js(Z)))


def changed_z(page, text):
    """What is shown as soon as it is not this text."""
    page.wait(f"{Z} !== {json.dumps(text)}")
    return shown_z(page)


def shown_frame(page):
    return np.array(page.js(PIXELS), np.float32).reshape(16, 16, 4)[..., :3]


def settled(page):
    """Waits until the picture no longer changes."""
    before = None
    while before is None or not np.array_equal(before, shown_frame(page)):
        before = shown_frame(page)
        time.sleep(0.1)
    return before


def test_dragging_changes_the_picture(page):
    before = shown_frame(page)
    x, y = page.at("#plane", 0.5, 0.5)
    page.mouse("Pressed", x, y)
    start = shown_z(page)
    late = []
    for step in range(20):
        page.mouse("Moved", x + 8 * step, y - 8 * step)
        late += numbers(page.js("document.getElementById('latency').textContent"))
    page.mouse("Released", x + 152, y - 152)
    moved = shown_z(page)
    assert np.abs(settled(page) - before).max() > 0
    assert (moved > start).all()
    assert statistics.median(late) < 100
    page.mouse("Moved", x, y)  # the button is up
    assert (shown_z(page) == moved).all()


def static_at_the_centre(page):
    """Moves z to the mean of p(z | f); f, which the page asks for a picture of."""
    return page.js(
        "(async () => { const sent = []; const old = window.fetch;"
        "window.fetch = (path, options) => { sent.push(options.body); return old(path, options); };"
        "document.getElementById('centre').click(); window.fetch = old; return JSON.parse(sent[0]).inputs; })()"
    )["static"]


def test_the_picture_is_that_of_the_z(page, server_url):
    static = static_at_the_centre(page)
    frame, z = settled(page), shown_z(page)
    wanted = Client("puppets", server_url).predict("decode", static=static, dynamic=[[z]])["frames"][0, 0]
    np.testing.assert_allclose(frame, 255 * wanted, atol=1)


def test_a_random_z_lies_under_the_prior_as_that_of_a_sample_does(page, server_url):
    prior = Client("puppets", server_url).predict("prior", static=static_at_the_centre(page))
    text = page.js(Z)
    page.js(
        "(() => { window.answers = []; const old = window.fetch; window.fetch = async (...asked) => {"
        "const reply = await old(...asked); window.answers.push((await reply.clone().json()).outputs);"
        "if (window.answers.length === 2) window.fetch = old; return reply; } })()"
    )
    page.click("#draw")
    z = changed_z(page, text)
    sample, of_sample = page.js("window.answers")
    place = (np.array(sample["dynamic"][0][0]) - of_sample["mean"][0]) / of_sample["stddev"][0]
    stddev = prior["stddev"][0]
    if (np.abs(place * stddev) < 2.3 * stddev.max()).all():  # the plane shows as much
        np.testing.assert_allclose(z, prior["mean"][0] + stddev * place, atol=0.006)
    else:
        assert ((z - prior["mean"][0]) * place > 0).all()


def test_a_finger_drags_too(page):
    page.window(360, 700, mobile=True)
    try:
        assert page.js("document.documentElement.scrollWidth") == 360
        page.at("#plane")  # scrolls to it
        before, scrolled = page.js(Z), page.js("scrollY")
        # Not at a frame, whose z may be the one that is shown.
        x, y = page.js(
            "(() => { const plane = document.getElementById('plane'), b = plane.getBoundingClientRect();"
            "for (let x = b.left + 20; x < b.right - 80; x += 10)"
            "for (let y = b.top + 20; y < b.bottom - 110; y += 10) {"
            "const at = document.elementFromPoint(x, y);"
            "if (plane.contains(at) && !at.closest('.point')) return [x, y]; } })()"
        )
        page.touch("Start", (x, y))
        touched, before = changed_z(page, before), page.js(Z)
        page.touch("Move", (x + 60, y + 90))
        page.touch("End")
        moved = changed_z(page, before)
        assert moved[0] > touched[0]
        assert moved[1] < touched[1]
        page.wait(f"scrollY >= {scrolled}")
    finally:
        page.window(1100, 900)


def test_arrow_keys_move_z(page):
    page.click("#centre")
    page.js("document.getElementById('plane').focus()")
    centre = shown_z(page)
    page.key("ArrowRight")
    right = shown_z(page)
    assert right[0] > centre[0]
    assert right[1] == centre[1]
    page.key("ArrowUp", shift=True)
    up = shown_z(page)
    assert up[1] - right[1] > 3 * (right[0] - centre[0])
    page.key("ArrowLeft")
    page.key("ArrowDown", shift=True)
    np.testing.assert_allclose(shown_z(page), centre, atol=0.011)
    for _ in range(10):
        page.key("ArrowDown", shift=True)
    least = shown_z(page)
    page.key("ArrowDown", shift=True)
    assert (shown_z(page) == least).all()  # the border


def test_uploads_are_encoded_and_swapped(page, tmp_path, server_url):
    rng = np.random.RandomState(0)
    pixels = rng.randint(0, 256, (2, 16, 16, 3)).astype(np.uint8)
    names = ["frame10.png", "frame9.png"]
    for name, frame in zip(names, pixels, strict=True):
        Image.fromarray(frame).save(tmp_path / name)
    page.upload("#slot-B input.files", [tmp_path / name for name in names])
    page.wait("document.querySelector('#slot-B .status').textContent === '2 frames, uploaded'")
    assert page.js("document.querySelector('input[name=who]:checked').value") == "B"
    client = Client("puppets", server_url)
    frames = pixels[None, ::-1] / 255  # 9 comes before 10
    codes = client.predict("encode", frames=frames)
    np.testing.assert_allclose(shown_z(page), codes["dynamic_mean"][0, 0], atol=0.006)
    wanted = client.predict("decode", static=codes["static_mean"], dynamic=codes["dynamic_mean"][:, :1])["frames"][0, 0]
    np.testing.assert_allclose(settled(page), 255 * wanted, atol=1.5)
    prior = client.predict("prior", static=codes["static_mean"])
    radii = page.js(
        "[...document.querySelectorAll('.ellipse')].map(e => [e.getAttribute('rx') / 1, e.getAttribute('ry') / 1])"
    )
    np.testing.assert_allclose(np.array(radii[0]) / radii[1], 2)
    assert radii[0][0] / radii[0][1] == pytest.approx(prior["stddev"][0, 0] / prior["stddev"][0, 1], rel=1e-4)
    assert page.js("document.querySelectorAll('.dot').length") == 2
    page.wait("document.querySelectorAll('#swaps img').length === 24")
    page.upload("#slot-A input.files", [draw_image(tmp_path / "other.jpg", size=(50, 30))])
    page.wait("document.querySelector('#slot-A .status').textContent === '1 frame, uploaded'")
    page.wait("document.querySelectorAll('#swaps img').length === 9")
    swapped = page.js(
        "(async () => { const image = document.querySelectorAll('.swap')[1].querySelectorAll('img')[2];"
        "await image.decode(); const c = document.createElement('canvas'); c.width = c.height = 16;"
        "c.getContext('2d').drawImage(image, 0, 0); return [...c.getContext('2d').getImageData(0, 0, 16, 16).data] })()"
    )
    sent = page.js(
        "(async () => { const image = document.querySelectorAll('.swap')[1].querySelectorAll('img')[0];"
        "await image.decode(); const c = document.createElement('canvas'); c.width = c.height = 16;"
        "c.getContext('2d').drawImage(image, 0, 0); return [...c.getContext('2d').getImageData(0, 0, 16, 16).data] })()"
    )
    sent = np.array(sent).reshape(1, 1, 16, 16, 4)[..., :3] / 255
    wanted = client.predict("swap", static_frames=frames, dynamic_frames=sent)["frames"][0, 0]
    np.testing.assert_allclose(np.array(swapped).reshape(16, 16, 4)[..., :3], 255 * wanted, atol=1.5)


def test_bad_uploads_are_told(page, tmp_path):
    (tmp_path / "notes.png").write_text("no image")
    page.upload("#slot-A input.files", [tmp_path / "notes.png"])
    page.wait(f"{MESSAGES}.includes('Sequence A: notes.png is no image that this browser can read.')")
    assert page.js("document.querySelector('#slot-A .status').textContent") == "6 frames, drawn from the model"
    page.upload("#slot-B input.files", [draw_image(tmp_path / f"{n}.png", size=(8, 8)) for n in range(33)])
    page.wait(f"{MESSAGES}.includes('Sequence B: At most 32 images at once; these are 33.')")
    page.js(
        "const dropped = new DataTransfer(); dropped.items.add(new File(['x'], 'dropped.txt'));"
        "document.getElementById('slot-B').dispatchEvent("
        "new DragEvent('drop', {dataTransfer: dropped, bubbles: true, cancelable: true}))"
    )
    page.wait(f"{MESSAGES}.includes('Sequence B: dropped.txt is no image that this browser can read.')")
    page.click("#errors button")
    assert "notes.png" not in page.js(MESSAGES)
    page.click("#slot-B .sample")
    page.wait(f"{MESSAGES} === ''")


def test_sampling_and_choosing_who(page):
    points = "[...document.querySelectorAll('.dot')].map(e => e.getAttribute('cx')).join()"
    before, frame = page.js(points), shown_frame(page)
    page.click("#slot-A .sample")
    page.wait(f"{points} !== '{before}'")
    page.click(".who label:last-of-type")
    assert page.js("document.getElementById('plane').getAttribute('class')") == "of-B"
    assert not np.array_equal(settled(page), frame)
    page.click("#slot-A .strip button:nth-child(3)")
    assert page.js("document.getElementById('plane').getAttribute('class')") == "of-A"
    assert (
        page.js("document.querySelector('#slot-A .strip button:nth-child(3)').getAttribute('aria-current')") == "true"
    )


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_play_goes_along_the_sequence(page, motion):
    page.media(prefers_reduced_motion=motion)
    page.click("#play")
    assert page.js("document.getElementById('play').textContent") == "Pause"
    seen = page.js(
        f"new Promise(done => {{ const seen = new Set(); const end = performance.now() + 2000;"
        f"const look = () => {{ seen.add({Z}); performance.now() < end ? setTimeout(look, 10) : done([...seen]) }};"
        "look() })"
    )
    assert len(seen) <= 4 if motion == "reduce" else len(seen) > 15
    page.click("#play")
    assert page.js("document.getElementById('play').textContent") == "Play"
    stopped = shown_z(page)
    time.sleep(0.2)
    assert (shown_z(page) == stopped).all()
    page.media(prefers_reduced_motion="no-preference")


def test_the_newest_of_many_requests_wins(browser, servable, monkeypatch):
    decodes, slow = [], threading.Event()
    run = Servable.__call__

    def counted(self, signature, tensors):
        if signature == "decode" and slow.is_set():
            decodes.append(tensors["dynamic"])
            time.sleep(0.3)
        return run(self, signature, tensors)

    monkeypatch.setattr(Servable, "__call__", counted)
    with running(application(servable)) as url:
        page = ready(browser, f"{url}/")
        slow.set()
        x, y = page.at("#plane")
        page.mouse("Pressed", x, y)
        for step in range(60):
            page.mouse("Moved", x + step, y)
        page.mouse("Released", x + 59, y)
        time.sleep(1)
        np.testing.assert_allclose(decodes[-1][0, 0], shown_z(page), atol=0.006)
        assert len(decodes) < 15
        page.open("about:blank")


def test_errors_of_the_server_are_told_in_words(browser, servable, tmp_path):
    with running(application(servable, Limits(body_bytes=60_000))) as url:
        page = ready(browser, f"{url}/")
        page.upload("#slot-A input.files", [draw_image(tmp_path / f"{n}.png") for n in range(20)])
        page.wait(f"{MESSAGES}.includes('Sequence A: These are too many images at once for the server. Take fewer.')")
    page.key("Tab")
    page.click("#plane", 0.2, 0.2)
    page.wait(f"{MESSAGES}.includes('The server does not answer. Is it still running?')")


def test_a_model_that_is_not_there(browser, server_url):
    browser.open(f"{server_url}/?model=faces")
    browser.wait(f"{MESSAGES}.includes('The server refuses: Servable not found for request: Latest(faces)')")


def test_it_asks_for_nothing_but_its_files_and_the_api(page, server_url, tmp_path):
    page.upload("#slot-A input.files", [draw_image(tmp_path / "a.png")])
    page.wait("document.querySelector('#slot-A .status').textContent === '1 frame, uploaded'")
    page.wait("document.querySelectorAll('#swaps img').length === 21")
    asked = {
        event["request"]["url"].split("?")[0]
        for name, event in page.events
        if name == "Network.requestWillBeSent" and not event["request"]["url"].startswith(("data:", "blob:"))
    }
    api = "v1/models/puppets"
    files = (*PAGES, "models.json", f"{api}/metadata", f"{api}:predict")
    assert asked == {f"{server_url}/{name}" for name in files if name != "index.html"}


def test_it_works_beside_another_server(browser, server_url):
    """As docs/serving.md has it: the three files, a models.json, and TF Serving behind a proxy at v1/."""

    async def forward(request):
        body = await request.read()
        async with aiohttp.ClientSession() as session:
            kind = {"Content-Type": request.headers["Content-Type"]} if body else None
            answer = await session.request(
                request.method, f"{server_url}/{request.match_info['path']}", data=body or None, headers=kind
            )
            return web.Response(body=await answer.read(), status=answer.status, content_type=answer.content_type)

    async def models(request):
        return web.json_response({"models": ["puppets", "faces"]})

    app = web.Application()
    app.router.add_get("/explorer/models.json", models)
    app.router.add_route("*", "/explorer/{path:v1/.*}", forward)
    app.router.add_static("/explorer/", EXPLORER)
    with running(app) as url:
        page = ready(browser, f"{url}/explorer/index.html")
        assert page.js("[...document.getElementById('models').options].map(o => o.value).join()") == "puppets,faces"
        page.open("about:blank")


def test_its_policy_forbids_everything_else(page):
    blocked = page.js("fetch('https://example.com/').then(() => 'sent', error => error.name)")
    assert blocked == "TypeError"
    told = [event["entry"]["text"] for name, event in page.events if name == "Log.entryAdded"]
    assert any("Content Security Policy" in text for text in told)
    page.events.clear()  # that was on purpose


DOWNLOADS = """(async () => {
  const saved = [];
  const create = URL.createObjectURL;
  URL.createObjectURL = (blob) => (saved.push(blob), create(blob));
  document.getElementById('%s').click();
  while (!saved.length) await new Promise((done) => setTimeout(done, 20));
  URL.createObjectURL = create;
  const bytes = new Uint8Array(await saved[0].arrayBuffer());
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''));
})()"""


def saved(page, button):
    """What a button saves."""
    return base64.b64decode(page.js(DOWNLOADS % button))


def test_the_picture_is_saved_larger_without_smoothing(page):
    frame = settled(page)
    with Image.open(io.BytesIO(saved(page, "save-picture"))) as image:
        assert image.format == "PNG"
        pixels = np.array(image.convert("RGB"), np.float32)
    np.testing.assert_array_equal(pixels[8::16, 8::16], frame)
    np.testing.assert_array_equal(pixels, np.kron(frame, np.ones((16, 16, 1))))


def test_the_path_is_saved_as_an_animation(page, server_url):
    page.js("document.querySelector('#slot-A .strip button').click()")
    first = settled(page)
    with Image.open(io.BytesIO(saved(page, "save-gif"))) as image:
        assert (image.format, image.size, image.n_frames) == ("GIF", (256, 256), 36)
        assert image.info["loop"] == 0
        assert image.info["duration"] == pytest.approx(130, abs=10)
        pictures = []
        for number in range(image.n_frames):
            image.seek(number)
            pictures.append(np.array(image.convert("RGB"), np.float32)[8::16, 8::16])
    assert np.abs(pictures[0] - first).mean() < 4  # of 256 colours
    assert np.abs(pictures[0] - pictures[18]).max() > 0


def test_codes_are_saved_as_a_table(page, server_url):
    lines = list(csv.DictReader(io.StringIO(saved(page, "save-codes").decode())))
    assert [(line["sequence"], line["frame"]) for line in lines] == [(s, str(n)) for s in "AB" for n in range(1, 7)]
    assert list(lines[0]) == ["sequence", "frame", "z_1", "z_2", "f_1", "f_2", "f_3", "f_4"]
    page.js("document.querySelector('#slot-B .strip button:nth-child(3)').click()")
    z = [float(lines[8][f"z_{axis}"]) for axis in (1, 2)]
    np.testing.assert_allclose(shown_z(page), z, atol=0.006)
    f = [[float(lines[8][f"f_{axis}"]) for axis in (1, 2, 3, 4)]]
    wanted = Client("puppets", server_url).predict("decode", static=f, dynamic=[[z]])["frames"][0, 0]
    np.testing.assert_allclose(settled(page), 255 * wanted, atol=1.5)


def slide(page, selector, value):
    page.js(
        f"(() => {{ const slider = document.querySelector('{selector}'); slider.value = '{value}';"
        "slider.dispatchEvent(new Event('input')) })()"
    )


def test_a_slider_goes_from_one_to_the_other(page, server_url):
    lines = list(csv.DictReader(io.StringIO(saved(page, "save-codes").decode())))
    f = {line["sequence"]: np.array([float(line[f"f_{axis}"]) for axis in (1, 2, 3, 4)]) for line in lines}
    page.click("#centre")
    z = shown_z(page)
    slide(page, "#mix", 0.25)
    assert page.js("document.querySelector('input[name=who]:checked').value") == "A"
    mixed = 0.75 * f["A"] + 0.25 * f["B"]
    wanted = Client("puppets", server_url).predict("decode", static=[mixed], dynamic=[[z]])["frames"][0, 0]
    np.testing.assert_allclose(settled(page), 255 * wanted, atol=2)
    text = page.js(Z)
    page.click("#centre")  # of p(z | f) of the f that is shown
    prior = Client("puppets", server_url).predict("prior", static=[mixed])
    np.testing.assert_allclose(changed_z(page, text), prior["mean"][0], atol=0.006)
    slide(page, "#mix", 0.75)
    assert page.js("document.querySelector('input[name=who]:checked').value") == "B"
    page.click(".who label:first-of-type")
    assert page.js("document.getElementById('mix').value") == "0"


def test_a_link_shows_the_same_again(page, browser):
    slide(page, "#mix", 0.3)
    page.click("#plane", 0.6, 0.4)
    frame, z = settled(page), page.js(Z)
    page.click("#copy-link")
    page.wait("document.getElementById('kept').textContent.startsWith('The link is in')")
    link = page.js("location.href")
    page.open("about:blank")
    page = ready(browser, link)
    page.wait(f"{Z} === {json.dumps(z)}")
    np.testing.assert_allclose(settled(page), frame, atol=1)
    assert page.js("document.querySelector('#slot-A .status').textContent") == (
        "6 frames, decoded from the codes of a link"
    )
    other = re.sub("mix=[0-9.]+", "mix=0.8", link)
    page.js(f"location.href = {json.dumps(other)}")  # as one that is pasted into the same tab
    page.wait("document.getElementById('mix')?.value === '0.8'")
    page.open("about:blank")
    page.open(link.replace("mix=", "mix=7"))
    page.wait(f"{MESSAGES}.includes('The link is not one of this model, or is not whole.')")
    page.open("about:blank")


def test_folders_are_spread_over_what_may_be_uploaded(page, tmp_path):
    for number in range(40):
        draw_image(tmp_path / "mine" / f"{number}.png", number)
    (tmp_path / "mine/notes.txt").write_text("no image")
    page.upload("#slot-B input.folder", [tmp_path / "mine"])
    page.wait("document.querySelector('#slot-B .status').textContent === '32 frames, uploaded, of 40 in the folder'")


def test_it_opens_on_example_frames(browser, servable, tmp_path):
    write_examples(RandomDataset(frame_shape=(16, 16, 3)), tmp_path / "examples")
    with_examples = copy.copy(servable)
    with_examples.directory = tmp_path / "version"
    (tmp_path / "version").mkdir()
    (tmp_path / "version/assets.extra").symlink_to(tmp_path)
    with running(application(with_examples)) as url:
        page = ready(browser, f"{url}/")
        for letter in "AB":
            status = page.js(f"document.querySelector('#slot-{letter} .status').textContent")
            assert status == "6 frames, never seen in training"
        page.open("about:blank")


@pytest.mark.parametrize("dynamic_dim", [1, 3])
def test_models_of_other_numbers_of_z(browser, tmp_path, dynamic_dim):
    model = DDR((16, 16, 1), **SIZES, dynamic_dim=dynamic_dim)
    write_saved_model(model, tmp_path / "puppets/1")
    with running(application(Servable(tmp_path / "puppets"))) as url:
        page = ready(browser, f"{url}/")
        assert len(shown_z(page)) == dynamic_dim
        assert page.js("document.querySelectorAll('#sliders input').length") == max(0, dynamic_dim - 2)
        page.click("#plane", 0.3, 0.3)
        if dynamic_dim == 3:
            before, frame = shown_z(page), settled(page)
            slide(page, "#sliders input", page.js("document.querySelector('#sliders input').max"))
            after = shown_z(page)
            assert (after[:2] == before[:2]).all()
            assert after[2] > before[2]
            assert np.abs(settled(page) - frame).max() > 0
        page.open("about:blank")
