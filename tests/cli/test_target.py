from __future__ import annotations

import sys

import pytest

from aiostream_engine.cli.target import TargetError, load


@pytest.fixture(autouse=True)
def _imports_undone():
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


def test_a_module_and_a_function_are_found_below_the_app_dir(tmp_path, write):
    write("pkg_one/__init__.py", "")
    write("pkg_one/jobs.py", "def build(ssc): return 1")
    build = load("pkg_one.jobs:build", tmp_path)
    assert build(None) == 1
    assert build.__module__ == "pkg_one.jobs"


def test_an_attribute_of_an_attribute_is_found(tmp_path, write):
    write("mod_two.py", "class Jobs:\n    build = staticmethod(lambda ssc: 2)")
    assert load("mod_two:Jobs.build", tmp_path)(None) == 2


def test_a_file_is_found_and_may_import_its_neighbours(tmp_path, write):
    write("dir/neighbour_three.py", "X = 3")
    write("dir/app_three.py", "import neighbour_three\ndef build(ssc): return neighbour_three.X")
    assert load("dir/app_three.py:build", tmp_path)(None) == 3
    assert load(f"{tmp_path}/dir/app_three.py:build", tmp_path)(None) == 3


@pytest.mark.parametrize("name", ["my-app.py", "json.py"])
def test_a_file_that_cannot_be_imported_by_its_name_is_sent_to_workers_by_value(tmp_path, write, name):
    import cloudpickle

    write(name, "def build(ssc): return helper()\ndef helper(): return 4")
    build = load(f"{name}:build", tmp_path)
    payload = cloudpickle.dumps(build)
    cloudpickle.unregister_pickle_by_value(sys.modules[build.__module__])
    del sys.modules[build.__module__]
    assert cloudpickle.loads(payload)(None) == 4


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("nothing", "write module:function"),
        (":x", "write module:function"),
        ("x:", "write module:function"),
        ("no_such_module:x", "no module 'no_such_module'"),
        ("json.no_such_part:x", "no module 'json.no_such_part'"),
        ("no_such_file.py:x", "no file"),
        ("..x:y", "is no module name"),
    ],
)
def test_a_target_that_is_not_there_is_said_with_what_to_write(tmp_path, target, text):
    with pytest.raises(TargetError, match=text):
        load(target, tmp_path)


def test_a_missing_function_is_said_with_those_that_are_there(tmp_path, write):
    write(
        "mod_five.py", "from json import dumps\ndef build(ssc): ...\ndef other(ssc): ...\ndef _hidden(): ..."
    )
    with pytest.raises(TargetError, match=r"no 'bild'; it has: build, other$"):
        load("mod_five:bild", tmp_path)


def test_a_missing_app_dir_is_said(tmp_path):
    with pytest.raises(TargetError, match="no directory"):
        load("json:dumps", tmp_path / "nowhere")


def test_an_error_of_the_module_itself_is_not_taken_for_a_missing_target(tmp_path, write):
    write("mod_six.py", "import a_library_that_is_not_installed")
    with pytest.raises(ModuleNotFoundError, match="a_library_that_is_not_installed"):
        load("mod_six:build", tmp_path)
