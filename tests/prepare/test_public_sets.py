"""Public sets by name: a hand-written piece of each, in the form in which it is published; the values are made up."""

import gzip

import pytest

from recbole_metarec.cli import main as cli
from recbole_metarec.cli.prepare import SETS
from recbole_metarec.prepare.public_sets import PUBLIC_SETS

pytestmark = pytest.mark.usefixtures("fresh_cache")

# name of the set -> files as bytes, the first of events; events in order (user, item, time); item -> text
SAMPLES = {
    "ml-1m": (
        {
            "ratings.dat": b"1::1193::5::978300760\n1::661::3::978302109\n2::1193::4::978298413\n",
            "movies.dat": b"1193::Am\xe9lie Verdoux (1975)::Drama\n661::Shoe, The (1996)::Animation|Children's\n",
            "users.dat": b"1::F::1::10::48067\n",
        },
        [("1", "1193", 978300760), ("1", "661", 978302109), ("2", "1193", 978298413)],
        {"1193": "Am\u00e9lie Verdoux (1975) Drama", "661": "Shoe, The (1996) Animation|Children's"},
    ),
    "ml-20m": (
        {
            "ratings.csv": b"userId,movieId,rating,timestamp\n1,2,3.5,1112486027\n1,29,3.5,1112484676\n",
            "movies.csv": b'movieId,title,genres\n2,"Board, The (1995)",Adventure|Fantasy\n29,Town (1995),Drama\n',
        },
        [("1", "29", 1112484676), ("1", "2", 1112486027)],
        {"2": "Board, The (1995) Adventure|Fantasy", "29": "Town (1995) Drama"},
    ),
    "steam": (
        {
            "steam_reviews.json.gz": gzip.compress(
                b"{u'username': u'Ann', u'hours': 9.3, u'products': 364, u'product_id': u'725280', u'page_order': 0, "
                b"u'date': u'2017-12-17', u'text': u'It\\'s \"fine\"', u'early_access': False, u'page': 1}\n"
                b"{u'username': u'J\\xfcrgen', u'hours': 0.1, u'product_id': u'328100', u'date': u'2017-12-16', "
                b"u'found_funny': 2, u'text': u'', u'user_id': u'76561198007483075', u'page': 1}\n"
            ),
            "steam_games.json.gz": gzip.compress(
                b"{u'publisher': u'Kot', u'genres': [u'Action', u'Indie'], u'app_name': u'Lost Crew', "
                b"u'id': u'725280', u'tags': [u'Strategy'], u'developer': u'Kot', u'price': 4.99}\n"
                b"{u'app_name': u'Poolish', u'price': u'Free to Play', u'id': u'328100'}\n"
            ),
        },
        [("Ann", "725280", 1513468800), ("J\u00fcrgen", "328100", 1513382400)],
        {"725280": 'Lost Crew Kot Action, Indie Strategy', "328100": "Poolish"},
    ),
    "yelp": (
        {
            "yelp_academic_dataset_review.json": b'{"review_id":"r1","user_id":"mh_-eM","business_id":"XQfwVw",'
            b'"stars":3.0,"useful":0,"text":"If you decide\\nto eat here","date":"2018-07-07 22:09:11"}\n',
            "yelp_academic_dataset_business.json": b'{"business_id":"XQfwVw","name":"St. Honore","city":"Reno",'
            b'"categories":"Food, Bakeries","hours":{"Monday":"7:0-20:0"}}\n',
        },
        [("mh_-eM", "XQfwVw", 1531001351)],
        {"XQfwVw": "St. Honore Food, Bakeries"},
    ),
    "taobao": (
        {"UserBehavior.csv": b"1,2268318,2520377,pv,1511544070\n1,2333346,2520771,buy,1511561733\n"},
        [("1", "2268318", 1511544070), ("1", "2333346", 1511561733)],
        None,
    ),
    "retailrocket": (
        {
            "events.csv": b"timestamp,visitorid,event,itemid,transactionid\n1433221332117,257597,view,355908,\n"
            b"1433221332118,257597,transaction,248676,4000\n"
        },
        [("257597", "355908", 1433221332117), ("257597", "248676", 1433221332118)],
        None,
    ),
    "yoochoose": (
        {"yoochoose-clicks.dat": b"1,2014-04-07T10:51:09.277Z,214536502,0\n1,2014-04-07T10:54:09.868Z,214536500,S\n"},
        [("1", "214536502", 1396867869.277), ("1", "214536500", 1396868049.868)],
        None,
    ),
    "lastfm": (
        {
            "userid-timestamp-artid-artname-traid-traname.tsv": "user_000001\t2009-05-04T23:08:57Z\tf1b1cf71-bd35\t"
            '"Weird Al" Yankovic\t\tLive\nuser_000001\t2009-05-04T13:54:10Z\t\tU\u0308ber\t\tA, b\n'.encode()
        },
        [("user_000001", "\u00dcber", 1241445250), ("user_000001", "'Weird Al' Yankovic", 1241478537)],
        None,
    ),
    "hm": (
        {
            "transactions_train.csv": b"t_dat,customer_id,article_id,price,sales_channel_id\n"
            b"2018-09-20,000058a12d,0663713001,0.050830508,2\n2018-09-21,000058a12d,0541518023,0.030491525,2\n",
            "articles.csv": b"article_id,product_code,prod_name,product_type_no,product_type_name,detail_desc\n"
            b'0663713001,0663713,Strap top,253,Vest top,"Jersey top, narrow"\n0541518023,0541518,Rae,306,Bra,\n',
        },
        [("000058a12d", "0663713001", 1537401600), ("000058a12d", "0541518023", 1537488000)],
        {"0663713001": "Strap top Vest top Jersey top, narrow", "0541518023": "Rae Bra"},
    ),
    "mind": (
        {
            "behaviors.tsv": b"1\tU13740\t11/11/2019 9:05:58 AM\tN55189 N42782\tN55689-1 N35729-0 N42782-1\n"
            b"2\tU91836\t11/12/2019 6:11:30 PM\t\tN20678-0 N39317-0\n"
            b"3\tU13740\t11/14/2019 7:01:48 AM\tN55189\tN20678-0 N23877-1\n",
            "news.tsv": b"N55689\tsports\tfootball_nfl\tChalk lines and \"quotes\"\tAn abstract\thttps://x\t[]\t[]\n"
            b"N42782\tnews\tus\tRain\t\thttps://x\t[{\"Label\": \"R\"}]\t[]\nN23877\tnews\tus\tSnow\t\t\t[]\t[]\n",
        },
        [("U13740", "N55689", 1573463158), ("U13740", "N42782", 1573463158), ("U13740", "N23877", 1573714908)],
        {
            "N55689": 'Chalk lines and "quotes" sports football_nfl', "N42782": "Rain news us",
            "N23877": "Snow news us",
        },
    ),
}  # fmt: skip


def prepared(tmp_path, capsys, name, *more):
    files, _, _ = SAMPLES[name]
    for file, data in files.items():
        (tmp_path / file).write_bytes(data)
    raw = tmp_path / next(iter(files))
    code = cli.main(["prepare", "D", "--form", name, "--raw", str(raw), "--core", "1", *map(str, more)])
    return code, capsys.readouterr()


def table(tmp_path, ending):
    lines = (tmp_path / "dataset" / "D" / f"D.{ending}").read_text(encoding="utf-8").splitlines()
    names = [field.split(":")[0] for field in lines[0].split("\t")]
    return [dict(zip(names, line.split("\t"), strict=True)) for line in lines[1:]]


@pytest.mark.parametrize("name", SAMPLES)
def test_a_set_is_read_as_it_is_published(tmp_path, capsys, name):
    _, events, texts = SAMPLES[name]
    assert prepared(tmp_path, capsys, name)[0] == 0
    rows = table(tmp_path, "inter")
    assert sorted((row["user_id"], row["item_id"], float(row["original_timestamp"])) for row in rows) == sorted(events)
    by_user = {user: [item for name, item, _ in events if name == user] for user, _, _ in events}
    assert {user: [row["item_id"] for row in rows if row["user_id"] == user] for user in by_user} == by_user
    if texts is None:
        assert not (tmp_path / "dataset" / "D" / "D.item").exists()
    else:
        assert {row["item_id"]: row["text"] for row in table(tmp_path, "item")} == texts


def test_every_set_has_a_sample_and_stands_in_the_help():
    assert list(SAMPLES) == list(PUBLIC_SETS) == SETS.split(", ")


def test_without_the_file_of_items_a_set_is_prepared_and_says_what_is_missing(tmp_path, capsys):
    files = SAMPLES["ml-1m"][0]
    (tmp_path / "ratings.dat").write_bytes(files["ratings.dat"])
    assert cli.main(["prepare", "D", "--form", "ML-1M", "--raw", str(tmp_path / "ratings.dat")]) == 0
    assert "there is no movies.dat beside it" in capsys.readouterr().out
    code, out = prepared(tmp_path, capsys, "ml-1m", "--overwrite", "--metadata", tmp_path / "movies.dat")
    assert code == 0 and "2 of 2 items have a text, from movies.dat" in out.out


@pytest.mark.parametrize("name, other", [("ml-1m", "ml-20m"), ("ml-20m", "ml-1m"), ("taobao", "yoochoose"),
                                         ("hm", "retailrocket"), ("steam", "yelp"), ("mind", "lastfm")])  # fmt: skip
def test_the_file_of_another_set_is_refused(tmp_path, capsys, name, other):
    file, data = next(iter(SAMPLES[other][0].items()))
    (tmp_path / file).write_bytes(data)
    assert cli.main(["prepare", "D", "--form", name, "--raw", str(tmp_path / file)]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {tmp_path / file}:1: ") and told.count("\n") == 1 and "skip_bad_lines" not in told
