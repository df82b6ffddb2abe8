"""Finding a named domain, saying what to do where it is absent, and the list of sources."""

import socket

import pytest

from recbole_metarec.config.dataset_files import DOMAIN_KEYS, domain_settings, known_domains, recbole_settings
from recbole_metarec.data.domains import find_domain, resolve_sources, sources_warning
from recbole_metarec.data.embedded import (
    EMBEDDED_DOMAINS,
    EMBEDDED_SOURCES,
    EMBEDDED_TARGET,
)
from recbole_metarec.errors import ConfigError, DataError
from recbole_metarec.files import cache_dir

TARGETS = ("Scientific", "Instruments", "Arts", "Office", "Games", "Pet")
SEVEN = ("Automotive", "Cell_Phones", "Clothing", "Electronics", "Food", "Home", "Movies")
FURTHER = ("Tools", "Toys", "Beauty", "Instant_Video", "Sports", "Yelp")


@pytest.fixture(autouse=True)
def own_cache_and_no_network(tmp_path, monkeypatch):
    monkeypatch.setenv("METAREC_CACHE", str(tmp_path / "cache"))

    def refuse(*args, **kwargs):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket, "socket", refuse)


@pytest.fixture
def data(tmp_path):
    for name in ("Scientific", "Office", "Tools", "Home", "Mine"):
        make(tmp_path / "data", name)
    return tmp_path / "data"


def make(folder, name):
    (folder / name).mkdir(parents=True)
    (folder / name / f"{name}.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\n1\t1\t1\n")


def refusal(kind, function, *args):
    with pytest.raises(kind) as caught:
        function(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_promised_domain_is_known():
    assert set(known_domains()) == {*TARGETS, *SEVEN, *FURTHER, *EMBEDDED_DOMAINS}
    assert list(known_domains()) == sorted(known_domains())


@pytest.mark.parametrize("name", known_domains())
def test_yaml_is_complete_and_consistent(name):
    settings = domain_settings(name)
    assert set(settings) - {"statistics"} == set(DOMAIN_KEYS) - {"statistics"}
    assert recbole_settings(name) == {}
    expected = [n for n in (sorted(EMBEDDED_DOMAINS) if name in EMBEDDED_DOMAINS else SEVEN) if n != name]
    assert settings["default_sources"] == expected
    assert set(expected) <= set(known_domains())
    source = settings["public_source"]
    assert source["edition"] in source["editions"]
    for files in source["editions"].values():
        assert set(files) == {"category", "reviews", "metadata"}
        assert all(files[key].startswith("https://") for key in ("reviews", "metadata"))
    assert settings["preparation"] == {"user_inter_num_interval": "[5,inf)", "item_inter_num_interval": "[5,inf)"}
    if "statistics" in settings:
        numbers = settings["statistics"]
        assert numbers["mean_length"] == pytest.approx(numbers["interactions"] / numbers["users"], abs=0.06)
        assert numbers.get("edition", source["edition"]) == source["edition"]


def test_unknown_names_have_no_settings():
    assert domain_settings("Nothing") == {} == recbole_settings("Nothing")
    assert domain_settings("../properties/overall") == {}


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    assert cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("METAREC_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "xdg" / "recbole-metarec"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "recbole-metarec"


def test_data_path_comes_before_the_cache(data):
    make(cache_dir(), "Scientific")
    make(cache_dir(), "Toys")
    assert find_domain("Scientific", data) == data
    assert find_domain("Scientific", str(data)) == data
    assert find_domain("Toys", data) == cache_dir()
    assert find_domain("Scientific") == cache_dir()
    assert find_domain("Mine", data) == data


def test_embedded_domains_are_made_on_demand_but_the_user_s_own_win(data):
    folder = find_domain(EMBEDDED_TARGET)
    assert (folder / EMBEDDED_TARGET / f"{EMBEDDED_TARGET}.inter").is_file() and folder.parent == cache_dir()
    make(data, EMBEDDED_TARGET)
    assert find_domain(EMBEDDED_TARGET, data) == data


def test_recbole_s_own_example_is_where_recbole_reads_it(data):
    folder = find_domain("ml-100k", data)
    assert (folder / "ml-100k" / "ml-100k.inter").is_file() and folder.name == "dataset_example"


def test_an_absent_known_domain_is_explained(tmp_path):
    message = refusal(DataError, find_domain, "Scientific", tmp_path / "no")
    place = f"no Scientific/Scientific.inter in {tmp_path / 'no'} or {cache_dir()}; "
    assert message.startswith(f"domain Scientific is not here: {place}recbole-metarec prepare Scientific fetches it ")
    source = domain_settings("Scientific")["public_source"]
    files = source["editions"][source["edition"]]
    assert f"from {files['reviews']} (item texts: {files['metadata']}); " in message
    assert "--simulate" in message and "--data_path" in message and "without --dataset" in message
    assert "--simulate" not in refusal(DataError, find_domain, "Arts", None)
    assert message.count(";") == 4 and "did you mean" not in message
    assert not cache_dir().exists()


def test_an_unknown_domain_gets_the_nearest_name(data):
    assert "did you mean Scientific?" in refusal(DataError, find_domain, "Sciencific", None)
    assert "did you mean Mine?" in refusal(DataError, find_domain, "mime", data)
    message = refusal(DataError, find_domain, "qqqq", data)
    assert "did you mean" not in message and "here are Home, Mine, Office, Scientific, Tools" in message
    assert "recbole-metarec prepare qqqq --raw FILE" in message


def test_a_file_one_folder_too_high_is_noticed(data):
    (data / "Loose.inter").write_text("")
    assert "--data_path must name the folder above" in refusal(DataError, find_domain, "Loose", data)
    assert "--data_path must name the folder above" in refusal(DataError, find_domain, "Office", data / "Office")


@pytest.mark.parametrize("name", ["", " ", ".", "..", "a/b", "a\\b", "a\nb", None, 3])
def test_what_is_not_a_name_is_refused(name, data):
    assert "is not the name of a domain" in refusal(DataError, find_domain, name, data)


def test_auto_sources_are_the_present_ones_and_the_missing_are_named(data):
    present, missing = resolve_sources("Scientific", "auto", data)
    assert present == ["Home"]
    assert missing == [name for name in SEVEN if name != "Home"]
    assert resolve_sources("Home", " AUTO ", data) == ([], [name for name in SEVEN if name != "Home"])
    assert resolve_sources(EMBEDDED_TARGET, "auto") == (sorted(EMBEDDED_SOURCES), [])


def test_auto_for_a_domain_of_the_user_s_own_is_no_transfer_and_worth_a_warning(data):
    assert resolve_sources("Mine", "auto", data) == ([], [])
    assert "name some" in sources_warning("Mine", "auto", data)
    for target, sources in (("Mine", "none"), ("Mine", "Tools"), ("Office", "auto")):
        assert sources_warning(target, sources, data) == ""


@pytest.mark.parametrize("sources", [None, "", " ", "none", "None", [], ()])
def test_no_sources(sources, data):
    assert resolve_sources("Scientific", sources, data) == ([], [])


@pytest.mark.parametrize("sources", ["Tools,Office", " Tools , Office ", ["Tools", "Office"], ("Tools", "Office")])
def test_named_sources_keep_their_order(sources, data):
    assert resolve_sources("Scientific", sources, data) == (["Tools", "Office"], [])


def test_wrong_sources(data):
    assert "among its sources" in refusal(ConfigError, resolve_sources, "Scientific", "Office,Scientific", data)
    assert "Office is given twice" in refusal(ConfigError, resolve_sources, "Scientific", ["Office", "Office"], data)
    assert "did you mean Office?" in refusal(DataError, resolve_sources, "Scientific", "Offfice", data)
    assert "sources: domain Food is not here" in refusal(DataError, resolve_sources, "Scientific", "Office,Food", data)
    assert "''" in refusal(DataError, resolve_sources, "Scientific", "Office,", data)
    for value in (3, {"Office": 1}, [3], True):
        assert "sources is" in refusal(ConfigError, resolve_sources, "Scientific", value, data)


def test_a_real_domain_is_as_large_as_its_configuration_says(data_dir):
    names = sorted(path.stem for path in data_dir.glob("*/*.inter"))
    assert all(find_domain(name, data_dir) == data_dir for name in names)
    known = [name for name in names if name in known_domains()]
    assert len(known) > 1
    for name in known:
        lines = (data_dir / name / f"{name}.inter").read_bytes().count(b"\n") - 1
        assert domain_settings(name)["statistics"]["interactions"] == lines
