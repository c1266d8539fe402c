"""The page in a real Chromium: a picture dropped, chosen or taken from the examples is named, by keyboard, too."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from in_process import running_app
from PIL import Image
from resnet_models.sample import load_sample
from resnet_server.endpoints.security.tokens import line_of, new_token
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait
from serving import RunningServer

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="chromium and its driver are not on this machine")
SWITCHES = (
    *("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"),
    *("disable-component-update", "disable-sync", "disable-dev-shm-usage", "window-size=1200,1000"),
)
SECONDS = 60
DROP = """
const [target, url] = arguments, done = arguments[2];
fetch(url).then((answer) => answer.blob()).then((blob) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([blob], "dropped.png", { type: "image/png" }));
  target.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
  done();
});
"""


@contextmanager
def browsing(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for switch in (*SWITCHES, f"user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(f"--{switch}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def browser(server: RunningServer, tmp_path: Path) -> Iterator[webdriver.Chrome]:
    with browsing(tmp_path) as driver:
        driver.get(server.http_url)
        wait_for_networks(driver)
        yield driver
        assert complaints(driver) == []


def wait_for_networks(browser: webdriver.Chrome) -> None:
    WebDriverWait(browser, SECONDS).until(lambda d: d.find_elements(By.CSS_SELECTOR, "#networks input"))


def complaints(browser: webdriver.Chrome) -> list[str]:
    """Errors that the browser logged since it was last asked: of scripts, and of what the security policy forbids."""
    entries = browser.get_log("browser")  # type: ignore[no-untyped-call]  # selenium annotates all but this
    return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]


def verdict(browser: webdriver.Chrome) -> str:
    """What is read out once the answer is there."""
    found: str = WebDriverWait(browser, SECONDS).until(lambda d: (text := d.find_element(By.ID, "status").text) and "says" in text and text)
    return found


def test_a_picture_dropped_is_named_and_the_certificate_shown(browser: webdriver.Chrome) -> None:
    browser.set_script_timeout(SECONDS)
    browser.execute_async_script(DROP, browser.find_element(By.ID, "drop"), "/page/examples/ship.png")
    assert verdict(browser).startswith("resnet20 says: ship, ")
    labels = browser.find_elements(By.CSS_SELECTOR, ".answer li")
    assert len(labels) == 5
    assert "Certificate" in browser.find_element(By.CSS_SELECTOR, ".answer").text


def test_a_file_chosen_is_named(browser: webdriver.Chrome, tmp_path: Path) -> None:
    Image.fromarray(load_sample().images[0]).save(tmp_path / "cat.jpg")
    browser.find_element(By.ID, "file").send_keys(str(tmp_path / "cat.jpg"))
    assert "says: cat, " in verdict(browser)
    assert "cat.jpg" in (browser.find_element(By.ID, "preview").get_attribute("alt") or "")


def test_an_example_by_keyboard_alone(browser: webdriver.Chrome) -> None:
    for _ in range(2):  # past the file, to the first example
        ActionChains(browser).send_keys(Keys.TAB).perform()
    assert "Example: airplane" in (browser.switch_to.active_element.find_element(By.TAG_NAME, "img").get_attribute("alt") or "")
    ActionChains(browser).send_keys(Keys.ENTER).perform()
    assert "says: airplane, " in verdict(browser)


def test_a_file_that_is_no_picture_says_so(browser: webdriver.Chrome, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    browser.find_element(By.ID, "file").send_keys(str(tmp_path / "text.png"))
    WebDriverWait(browser, SECONDS).until(lambda d: "images[0]: " in d.find_element(By.ID, "answers").text)
    assert all("400" in line for line in complaints(browser))  # Chromium logs the answer itself


def test_everything_comes_from_the_server_itself(server: RunningServer) -> None:
    for path in ("/", "/page/page.js", "/page/page.css", "/page/examples/cat.png"):
        answer = httpx.get(server.http_url + path)
        assert answer.status_code == 200
        assert answer.headers["content-security-policy"].startswith("default-src 'self'")
        assert "http://" not in answer.text.replace("http://www.w3.org/2000/svg", "") or path.endswith("png")
        assert "https://" not in answer.text or path.endswith("png")
    assert httpx.get(server.http_url + "/page/../models_page.py").status_code == 404
    assert "/v2/models/{name}/infer" in httpx.get(server.http_url + "/openapi.json").json()["paths"]


def test_a_server_that_asks_for_a_token_is_given_one(repository: Path, tmp_path: Path) -> None:
    token = new_token()
    (tmp_path / "tokens").write_text(line_of("one", token, ("infer",), {}))
    with running_app(repository, tmp_path / "plans", tokens=tmp_path / "tokens") as app, browsing(tmp_path) as driver:
        driver.get(f"http://127.0.0.1:{app.http_port}")
        field = WebDriverWait(driver, SECONDS).until(lambda d: (found := d.find_element(By.ID, "token")).is_displayed() and found)
        assert "authorization: not sent" in driver.find_element(By.ID, "status").text
        field.send_keys(token, Keys.ENTER)
        wait_for_networks(driver)
        assert not field.is_displayed()
        driver.find_element(By.CSS_SELECTOR, "#examples button").click()
        assert verdict(driver).startswith("resnet20 says: airplane, ")
