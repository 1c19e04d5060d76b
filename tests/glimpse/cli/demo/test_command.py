from glimpse.cli import app


def test_a_run_that_fails_leaves_no_page_of_an_older_one(tmp_path, monkeypatch):
    (tmp_path / "index.html").write_text("an older page")
    monkeypatch.setattr("glimpse.cli.train.command.main", lambda args, program: 2)
    assert app.main(["demo", "--output", str(tmp_path)]) == 2
    assert not (tmp_path / "index.html").exists()
