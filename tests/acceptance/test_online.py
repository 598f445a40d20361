"""Whoever is there gets messages at once: acknowledgements, sessions, devices, receipts, presence."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.acceptance.answers import good, moment, problem
from tests.acceptance.beside import beside
from tests.acceptance.people import Device, ids, pending_because, person, phone_of
from tests.acceptance.service import Service
from tests.acceptance.sockets import Socket
from tests.eventually import soon

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="class")
def _alices() -> dict[Service, Device]:
    return {}


@pytest.fixture
def alice(quick: Service, _alices: dict[Service, Device]) -> Device:
    """Somebody who writes; the same for all tests of a class."""
    if quick not in _alices:
        _alices[quick] = phone_of(quick, "alice")
    return _alices[quick]


@pytest.fixture
def bob(quick: Service) -> Device:
    return person(quick, "bob").logs_in_for_nothing().device()


def states(device: Device, message_id: str) -> list[str]:
    return [event["state"] for event in device.trail(message_id)["events"]]


class TestTheStory:
    def test_a_message_goes_through_its_life_at_once(self, alice: Device, bob: Device) -> None:
        with Socket(bob) as there, Socket(alice, receipts_from="now") as asks:
            assert there.ready.keys() >= {"session", "window", "heartbeat_seconds", "ack_timeout_seconds", "expires_at"}
            assert (there.ready["window"], there.ready["ack_timeout_seconds"]) == (256, 4)
            moment(there.ready["expires_at"])
            there.take("caught_up")
            asks.take("caught_up")
            sent = good(alice.post(bob, "are you there?"), 202)
            frame = there.take("message")
            cursor = frame.pop("cursor")
            (synced,) = bob.mailbox()
            assert {**frame, "status": None} == {"type": "message", **synced, "status": None}, "exactly as in sync"
            assert (frame["id"], frame["body"], frame["from"]) == (sent["id"], "are you there?", alice.name)
            soon(lambda: alice.status(sent["id"])["status"] == "DeliveryAttempted")

            assert there.ack([sent["id"]])["acknowledged"] == [sent["id"]]
            assert alice.status(sent["id"])["status"] == "Delivered"
            assert bob.page(cursor=cursor)["messages"] == bob.mailbox() == []
            assert there.read([sent["id"]])["acknowledged"] == [sent["id"]]

            delivered, read = asks.take("receipt"), asks.take("receipt")
        assert [(one["message_id"], one["to"], one["status"]) for one in (delivered, read)] == [
            (sent["id"], bob.name, "Delivered"),
            (sent["id"], bob.name, "Read"),
        ]
        trail = bob.trail(sent["id"])
        assert [event["state"] for event in trail["events"]] == [
            "Created",
            "Stored",
            "DeliveryAttempted",
            "Delivered",
            "Read",
        ]
        (attempt,) = trail["attempts"]
        assert (attempt["device_id"], attempt["session"]) == (bob.device_id, there.ready["session"])
        assert moment(attempt["pushed_at"])

    def test_what_came_while_nobody_was_there_comes_first(self, alice: Device, bob: Device) -> None:
        waiting = alice.send_all(bob, [f"old {number}" for number in range(5)])
        with Socket(bob) as there:
            assert ids(there.backlog()) == waiting
            live = alice.send(bob, "new")
            assert there.take("message")["id"] == live
            there.ack([live])
        assert bob.mailbox() == []

    def test_any_content(self, alice: Device, bob: Device) -> None:
        with Socket(bob) as there:
            there.take("caught_up")
            alice.send(bob, "")
            alice.send(bob, body_base64="AP8=", content_type="image/x-two")
            alice.send(bob, "é\u0000\U0001f44b" * 8000)
            empty, binary, long = there.messages(3)
            there.ack([empty, binary, long])
        assert (empty["body"], long["body"]) == ("", "é\u0000\U0001f44b" * 8000)
        assert (binary["body_base64"], binary["content_type"]) == ("AP8=", "image/x-two")


class TestAcknowledging:
    def test_by_http_what_was_pushed_and_the_other_way_round(self, alice: Device, bob: Device) -> None:
        with Socket(bob) as there:
            there.take("caught_up")
            pushed = alice.send(bob, "pushed")
            there.take("message")
            assert bob.ack([pushed])["acknowledged"] == [pushed]
            answer = there.ack([pushed])
            assert answer["acknowledged"] + answer["already"] == [pushed], "a session may not have heard of it yet"
            synced = alice.send(bob, "synced")
            assert ids(bob.mailbox()) == [synced]
            assert there.ack([synced])["acknowledged"] == [synced]
            assert bob.ack([synced])["already"] == [synced]
            assert there.read([pushed])["acknowledged"] == [pushed]
            assert bob.read([pushed])["already"] == [pushed]
        assert bob.mailbox() == []
        assert (alice.status(pushed)["status"], alice.status(synced)["status"]) == ("Read", "Delivered")

    def test_by_http_during_the_drain(self, alice: Device, bob: Device) -> None:
        sent = alice.send_all(bob, [str(number) for number in range(400)])
        with Socket(bob) as there:
            first = there.messages(100)
            assert set(bob.ack(sent[50:350])["acknowledged"]) == set(sent[50:350])
            rest = there.backlog(ack=False)
            came = ids(first + rest)
            there.ack(came)
        assert came == sorted(set(came), key=sent.index), "in order, each once"
        assert set(came) >= {*sent[:100], *sent[350:]}
        assert bob.mailbox() == []

    def test_the_same_by_two_devices_is_one_receipt(self, quick: Service, alice: Device, bob: Device) -> None:
        tablet = bob.person.device("tablet")
        with Socket(bob) as phone, Socket(tablet) as other, Socket(alice, receipts_from="now") as asks:
            for there in (phone, other, asks):
                there.take("caught_up")
            first = alice.send(bob, "to both")
            for there in (phone, other):
                assert there.take("message")["id"] == first
            with ThreadPoolExecutor(2) as pool:
                answers = list(pool.map(lambda there: there.ack([first]), (phone, other)))
            assert [answer["acknowledged"] for answer in answers] == [[first]] * 2
            second = alice.send(bob, "again")
            phone.ack([phone.take("message")])
            receipts = [asks.take("receipt") for _ in range(2)]
        assert [(one["message_id"], one["status"]) for one in receipts] == [(first, "Delivered"), (second, "Delivered")]
        assert {one["device_id"] for one in bob.status(first)["devices"]} == {bob.device_id, tablet.device_id}
        assert ids(tablet.mailbox()) == [second], "what one device has, the other still has to get"
        assert bob.mailbox() == []

    def test_of_what_is_not_ours_changes_nothing(self, alice: Device, bob: Device) -> None:
        mine, hers = alice.send(bob, "to bob"), bob.send(alice, "to alice")
        with Socket(bob) as there:
            there.take("message")
            answer = there.ack([hers, mine])
        assert (answer["acknowledged"], answer["unknown"]) == ([mine], [hers])
        assert ids(alice.mailbox()) == [hers]

    def test_in_time_or_the_session_ends(self, alice: Device, bob: Device) -> None:
        tablet = bob.person.device("tablet")
        with Socket(bob) as idle, Socket(tablet) as by_http:
            for there in (idle, by_http):
                there.take("caught_up")
            message_id = alice.send(bob, "hello?")
            assert by_http.take("message")["id"] == message_id
            tablet.ack([message_id])
            assert idle.closed()[0] == 4408
            by_http.say(type="ping", n=7)
            assert by_http.take("pong")["n"] == 7, "an acknowledgement by HTTP is one"
        assert [message["id"] for message in idle.came if message["type"] == "message"] == [message_id]

        lonely = alice.send(tablet, "second")
        with Socket(bob) as again:
            assert ids(again.messages(2)) == [message_id, lonely]
            again.ack([message_id])
            assert again.closed()[0] == 4408
        soon(lambda: alice.status(lonely)["status"] == "PendingSync")
        with Socket(bob) as at_last:
            assert ids(at_last.backlog()) == [lonely]
        assert alice.status(lonely)["status"] == "Delivered"

    def test_too_late_is_in_the_trail(self, alice: Device, bob: Device) -> None:
        with Socket(bob) as there:
            there.take("caught_up")
            message_id = alice.send(bob, "hello?")
            there.take("message")
            assert there.closed()[0] == 4408
        assert soon(lambda: pending_because(alice, message_id)) == "ack_timeout"
        (attempt,) = bob.trail(message_id)["attempts"]
        assert attempt["session"] == there.ready["session"]
        assert "ack_timeout" in str(attempt["result"]), attempt
        bob.ack([message_id])
        assert states(alice, message_id) == ["Created", "Stored", "DeliveryAttempted", "PendingSync", "Delivered"]

    def test_no_more_than_a_window_is_on_its_way(self, alice: Device, bob: Device) -> None:
        sent = alice.send_all(bob, [str(number) for number in range(400)])
        with Socket(bob) as there:
            first = there.messages(256)
            there.say(type="ping", n=1)
            there.take("pong")
            assert there.kinds() == {"ready": 1, "message": 256, "pong": 1}
            there.ack(first[:100])
            second = there.messages(100)
            there.say(type="ping", n=2)
            there.take("pong")
            assert there.kinds()["message"] == 356
            there.ack(first[100:] + second)
            rest = there.backlog()
        assert ids(first + second + rest) == sent
        assert bob.mailbox() == []


class TestSessions:
    def test_the_newer_one_of_a_device_counts(self, alice: Device, bob: Device) -> None:
        with Socket(bob) as old:
            old.take("caught_up")
            first = alice.send(bob, "to the old one")
            old.take("message")
            with Socket(bob) as new:
                assert old.closed()[0] == 4409
                assert ids(new.backlog()) == [first]
                second = alice.send(bob, "to the new one")
                assert new.take("message")["id"] == second
                new.ack([second])
        assert "message" not in {frame["type"] for frame in old.came[3:]}

    def test_may_be_at_any_of_several_gateways(self, quick: Service, alice: Device, bob: Device) -> None:
        tablet = bob.person.device("tablet")
        with beside(quick, "api") as second:
            with Socket(bob, at=second.url) as there, Socket(tablet) as here:
                there.take("caught_up")
                here.take("caught_up")
                sent = [alice.send(bob, str(number)) for number in range(20)]
                for at in (there, here):
                    came = at.messages(20)
                    at.ack(came)
                    assert ids(came) == sent
                with Socket(bob) as moved:
                    assert there.closed()[0] == 4409
                    moved.take("caught_up")
                    after = alice.send(bob, "after the move")
                    assert moved.take("message")["id"] == after
                    moved.ack([after])
            carol = phone_of(quick, "carol")
            with Socket(carol, at=second.url) as lost:
                lost.take("caught_up")
                message_id = alice.send(carol, "in flight")
                lost.take("message")
                second.kill()
                assert soon(lambda: pending_because(alice, message_id), 30.0) == "gateway_lost"
                missed = alice.send(carol, "nobody there")
                assert soon(lambda: pending_because(alice, missed), 30.0) == "no_session"
            assert ids(carol.drain()) == [message_id, missed]

    def test_ends_with_the_login(self, bob: Device) -> None:
        tablet = bob.person.device("tablet")
        with Socket(tablet) as other, Socket(bob) as there:
            for one in (other, there):
                one.take("caught_up")
            assert bob.call("DELETE", "/tokens/current").status_code == 204
            assert there.closed(10)[0] == 4401
            other.say(type="ping", n=1)
            other.take("pong")

    def test_is_renewed_on_the_live_socket(self, alice: Device, bob: Device) -> None:
        with Socket(bob) as there:
            there.take("caught_up")
            fresh = good(bob.service.request("POST", "/tokens/refresh", json={"refresh_token": bob.refresh_token}))
            there.say(type="authenticate", token=fresh["access_token"])
            assert moment(there.take("authenticated")["expires_at"]) >= moment(there.ready["expires_at"])
            message_id = alice.send(bob, "still there?")
            assert there.take("message")["id"] == message_id


class TestDevices:
    def test_each_has_its_own_view(self, alice: Device, bob: Device) -> None:
        first = alice.send(bob, "one")
        with Socket(bob) as phone:
            assert ids(phone.backlog(ack=False)) == [first]
            tablet = bob.person.device("tablet")
            with Socket(tablet) as other:
                assert ids(other.backlog(ack=False)) == [first], "a new device starts with what nobody has acknowledged"
                phone.ack([first])
                assert ids(tablet.mailbox()) == [first]
                second = alice.send(bob, "two")
                assert ids(other.messages(1)) == ids(phone.messages(1)) == [second]
                other.ack([first, second])
                laptop = bob.person.device("laptop")
                assert laptop.mailbox() == []
                rows = {row["label"]: row for row in bob.devices()}
                assert {label: row["pending"] for label, row in rows.items()} == {"phone": 1, "tablet": 0, "laptop": 0}
                assert [label for label, row in rows.items() if row["current"]] == ["phone"]
                assert bob.call("DELETE", f"/devices/{tablet.device_id}").status_code == 204
                assert other.closed(10)[0] == 4401
            problem(tablet.call("GET", "/messages/sync"), "token_revoked", "token_invalid")
            phone.ack([second])
        assert bob.mailbox() == []
        again = bob.person.device("tablet")
        assert again.device_id != tablet.device_id
        assert again.mailbox() == []


class TestReceipts:
    def test_each_once_and_in_order_and_resumable(self, alice: Device, bob: Device) -> None:
        start = alice.receipts(cursor="now")["cursor"]
        with Socket(alice, receipts_from=start) as asks:
            asks.take("caught_up")
            sent = alice.send_all(bob, [str(number) for number in range(120)])
            bob.ack(sent[:60])
            bob.read(sent[30:90])
            bob.ack(sent)
            live = [asks.take("receipt") for _ in range(150)]
        pairs = [(one["message_id"], one["status"]) for one in live]
        assert pairs == [
            *((one, "Delivered") for one in sent[:60]),
            *((one, "Read") for one in sent[30:90]),
            *((one, "Delivered") for one in sent[90:]),
        ]

        paged, cursor, more = [], start, True
        while more:
            page = alice.receipts(cursor=cursor, limit=50)
            paged += page["receipts"]
            cursor, more = page["cursor"], page["has_more"]
        assert paged == [{key: value for key, value in one.items() if key != "type"} for one in live]
        half = alice.receipts(cursor=paged[69]["cursor"], limit=500)["receipts"]
        assert half == paged[70:]
        with Socket(alice, receipts_from=paged[99]["cursor"]) as resumed:
            assert [resumed.take("receipt")["cursor"] for _ in range(len(paged) - 100)] == [
                one["cursor"] for one in paged[100:]
            ]

    def test_the_long_poll_ends_when_one_comes(self, alice: Device, bob: Device) -> None:
        cursor = alice.receipts(cursor="now")["cursor"]
        message_id = alice.send(bob, "x")
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(alice.receipts, cursor=cursor, wait=30)
            bob.ack([message_id])
            (receipt,) = waiting.result(25)["receipts"]
        assert (receipt["message_id"], receipt["status"]) == (message_id, "Delivered")

    def test_a_receipt_is_there_when_the_acknowledgement_was_answered(self, alice: Device, bob: Device) -> None:
        cursor = alice.receipts(cursor="now")["cursor"]
        for number in range(10):
            message_id = alice.send(bob, str(number))
            bob.ack([message_id])
            page = alice.receipts(cursor=cursor)
            assert [one["message_id"] for one in page["receipts"]] == [message_id]
            cursor = page["cursor"]


class TestPresence:
    def test_is_seen_by_whom_both_know(self, quick: Service, alice: Device, bob: Device) -> None:
        problem(alice.call("GET", f"/presence/{bob.name}"), "presence_unknown")
        alice.send(bob, "hi")
        problem(alice.call("GET", f"/presence/{bob.name}"), "presence_unknown")
        bob.send(alice, "hi")
        assert soon(lambda: alice.presence(bob.name))["online"] is False
        with Socket(bob) as there:
            there.take("caught_up")
            soon(lambda: alice.presence(bob.name)["online"])
        seen = soon(lambda: (said := alice.presence(bob.name))["online"] is False and said)
        assert seen.keys() == {"name", "online", "last_seen_at"}
        assert seen["name"] == bob.name
        moment(seen["last_seen_at"])
        carol = phone_of(quick, "carol")
        assert carol.call("GET", f"/presence/{bob.name}").status_code == 404
