"""ATTACKS.md lists what these tests try."""

import attacks


def test_list_of_attacks_matches_the_tests():
    made, kept = attacks.page(), open(attacks.PAGE).read()
    assert made == kept, "run: python tests/security/attacks.py"


def test_every_attempt_of_the_attacker_is_in_the_list():
    import attacker

    kept = open(attacks.PAGE).read()
    assert [name for name in attacker.ATTEMPTS if "`%s`" % name not in kept] == []
