"""The control of the tests in a real browser: they notice a page that is bad."""

from browser import (
    PHONE,
    list_broken_pictures,
    list_overflowing,
    list_poor_contrasts,
    list_requests,
    open_browser,
    read_console,
    show,
)


def test_browser_checks_catch_what_they_must(tmp_path):
    path = tmp_path / "bad.html"
    path.write_text(
        "<body style='background:#fff'><p style='width:900px;color:#ddd'>pale</p>"
        "<img src='nowhere.png' alt='lost'><script>nonsense()</script></body>"
    )
    with open_browser() as browser:
        show(browser, path, width=PHONE)
        assert "P." in list_overflowing(browser)
        assert list_broken_pictures(browser) == ["lost"]
        assert list_poor_contrasts(browser)[0][0] == "pale"
        assert any("nonsense is not defined" in line for line in read_console(browser))
        assert any("nowhere.png" in url for url in list_requests(browser))
