"""The table says who leads, what can't be told apart from it, and why others were stopped."""

from raylight.pipeline.probing.ranking import Ranked, Ranking

FIRST = Ranked("a_net", "pretrained", 0.986, 0.979, 0.991, 1802, 0.0, 0.0, 0.0, 1.0, 48.4, 2_226_434, None)
SECOND = Ranked("b_net", "/w/b_net.pt", 0.981, 0.973, 0.986, 1802, -0.005, -0.011, 0.002, 0.2, 90.0, 11_177_538, None)
THIRD = Ranked("c_net", "random", 0.61, 0.52, 0.69, 128, -0.37, -0.46, -0.28, 1e-9, 30.0, 25_000_000, "far behind")
FOUND = Ranking((FIRST, SECOND, THIRD), 1802, "python train.py data=d model=a_net", 12.3, (("d_net", "no head <b>"),))


def test_the_text_has_a_row_for_each_network_and_the_sentence() -> None:
    head, first, second, third, refused, empty, sentence, command = str(FOUND).split("\n")
    assert " ".join(head.split()) == "network accuracy 95 % interval to the leader 95 % interval p images/s parameters"
    assert " ".join(first.split()) == "a_net 98.6 % 97.9 to 99.1 48 2.2 M"
    assert " ".join(second.split()) == (
        "b_net 98.1 % 97.3 to 98.6 -0.5 -1.1 to +0.2 0.200 90 11.2 M weights: /w/b_net.pt"
    )
    assert third.endswith("  weights: random; stopped after 128 images, far behind")
    assert " <0.001 " in third
    assert refused == "d_net isn't ranked: no head <b>"
    assert empty == ""
    assert sentence == (
        "a_net leads with 98.6 % (97.9 to 99.1) of 1,802 images; these two don't differ significantly: a_net, b_net "
        "(the fastest: b_net)."
    )
    assert command == "Train it: python train.py data=d model=a_net"


def test_one_ahead_of_all_is_said_to_be() -> None:
    assert Ranking((FIRST, THIRD), 1802, "", 1.0).sentence.endswith(
        "; the others are behind it, or were stopped early."
    )
    assert Ranking((FIRST,), 1802, "", 1.0).sentence == "a_net leads with 98.6 % (97.9 to 99.1) of 1,802 images."


def test_a_notebook_shows_the_same_table() -> None:
    page = FOUND._repr_html_()
    assert page.count("<tr>") == 4
    assert "<td>98.1 %</td>" in page
    assert "these two don&#x27;t differ significantly" in page
    assert FOUND.table["like_the_leader"].tolist() == [True, True, False]
    assert FOUND.table["parameters"].tolist() == [2_226_434, 11_177_538, 25_000_000]
