from shipway.core.environment import (
    canonical_name,
    lock_lines,
    public_version,
    resolution_of,
    without_comments,
    without_unneeded,
)

LISTING = """\
cuda-toolkit==13.2.2      # via torch
Jinja2==3.1.6             # via torch, flask
nvidia_cublas==13.4.1     # via cuda-toolkit
torch==2.13.0+cpu
# a comment
tzdata==2026.6 ; sys_platform == 'win32'
"""


def test_environment_names_have_one_spelling():
    assert canonical_name("Scikit_Learn.x") == "scikit-learn-x"


def test_environment_locks_have_public_versions_in_order():
    assert public_version("2.13.0+cpu") == "2.13.0"
    assert lock_lines({"b": "2", "a": "1"}) == ("a==1", "b==2")


def test_environment_lines_are_read_without_comments_and_options():
    text = ["numpy==1 # why", "", "# all", "-r other.txt", "--hash=x", " scipy>=1 "]

    assert without_comments(text) == ("numpy==1", "scipy>=1")


def test_environment_listing_tells_versions_and_who_requires_them():
    pins, requirers = resolution_of(LISTING)

    assert pins == {
        "cuda-toolkit": "13.2.2",
        "jinja2": "3.1.6",
        "nvidia-cublas": "13.4.1",
        "torch": "2.13.0",
        "tzdata": "2026.6",
    }
    assert requirers["jinja2"] == {"torch", "flask"}
    assert requirers["torch"] == frozenset()


def test_environment_goes_without_what_an_installed_package_runs_without():
    pins, requirers = resolution_of(LISTING)
    installed = {"torch": "2.13.0", "jinja2": "3.1.6"}

    assert set(without_unneeded(pins, requirers, installed)) == {"jinja2", "torch", "tzdata"}


def test_environment_keeps_what_another_version_of_an_installed_package_requires():
    pins, requirers = resolution_of(LISTING)
    installed = {"torch": "2.4.0"}

    assert without_unneeded(pins, requirers, installed) == pins
