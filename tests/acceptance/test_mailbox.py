"""The mailbox over HTTP: order, limits, cursors, acknowledgements, devices."""

from __future__ import annotations

import base64
import itertools
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.acceptance.answers import complete, good, moment, personal, problem
from tests.acceptance.people import Device, bodies, ids, phone_of
from tests.acceptance.service import Service

KIB = 1024


class TestBatch:
    def test_keeps_the_order_and_answers_each_on_its_own(self, service: Service, alice: Device, bob: Device) -> None:
        carol = phone_of(service, "carol")
        wanted = [
            {"to": bob.name, "body": "0"},
            {"to": carol.name, "body": "1"},
            {"to": "nobody-of-that-name", "body": "2"},
            {"to": bob.name, "body": "3"},
            {"to": bob.name, "body": "x" * (64 * KIB + 1)},
            {"to": bob.name, "body": "5", "body_base64": "NQ=="},
            {"to": bob.name, "body": "6"},
        ]
        answer = personal(alice.batch(wanted), 202)
        assert answer.keys() == {"accepted", "rejected", "results"}
        assert (answer["accepted"], answer["rejected"]) == (4, 3)
        codes = [result["problem"]["code"] if "problem" in result else None for result in answer["results"]]
        assert codes == [None, None, "recipient_unknown", None, "body_too_large", "invalid_request", None]
        for result in answer["results"]:
            if "problem" in result:
                complete(result["problem"])
            else:
                assert result.keys() == {"id", "to", "status", "stored_at"}
                moment(result["stored_at"])
        came = bob.mailbox()
        assert bodies(came) == ["0", "3", "6"]
        assert ids(came) == [answer["results"][place]["id"] for place in (0, 3, 6)]
        assert bodies(carol.mailbox()) == ["1"]

    def test_of_500_arrives_whole_and_501_are_refused(self, alice: Device, bob: Device) -> None:
        wanted = [str(number) for number in range(500)]
        alice.send_all(bob, wanted)
        assert bodies(bob.mailbox()) == wanted
        problem(alice.batch([{"to": bob.name, "body": "x"}] * 501), "invalid_request")
        problem(alice.batch([]), "invalid_request")
        assert bob.page(limit=1)["pending"] == 500

    def test_keys_settle_repeats_within_and_between_batches(self, alice: Device, bob: Device) -> None:
        first = alice.batch([{"to": bob.name, "body": "once", "idempotency_key": "k"}])
        again = alice.batch([{"to": bob.name, "body": "once", "idempotency_key": "k"}, {"to": bob.name, "body": "new"}])
        (one,), (same, new) = good(first, 202)["results"], good(again, 202)["results"]
        assert (same["id"], same["replayed"]) == (one["id"], True)
        assert "replayed" not in new
        assert bodies(bob.mailbox()) == ["once", "new"]
        twice = good(alice.batch([{"to": bob.name, "body": "twin", "idempotency_key": "t"}] * 2), 202)
        assert twice["results"][0]["id"] == twice["results"][1]["id"]
        assert bodies(bob.mailbox()) == ["once", "new", "twin"]


class TestBodies:
    def test_text_of_64_kib_is_the_most(self, alice: Device, bob: Device) -> None:
        largest = "é" * (32 * KIB)
        alice.send(bob, largest)
        problem(alice.post(bob, largest + "x"), "body_too_large")
        raw = base64.b64encode(b"\xff" * (64 * KIB)).decode()
        alice.send(bob, body_base64=raw)
        over = base64.b64encode(b"\xff" * (64 * KIB + 1)).decode()
        problem(alice.post(bob, body_base64=over), "body_too_large")
        text, binary = bob.mailbox()
        assert text["body"] == largest
        assert binary["body_base64"] == raw

    def test_text_comes_back_to_the_character(self, alice: Device, bob: Device) -> None:
        wanted = ["", "\0 and \0", "\U0001f600", '"\\\r\n\t', "\ufeff\u2028\u202e", "e\u0301", "\x7f\x1b[31m"]
        for body in wanted:
            alice.send(bob, body)
        messages = bob.mailbox()
        assert bodies(messages) == wanted
        assert all(message["content_type"] == "text/plain" for message in messages)
        assert all("body_base64" not in message for message in messages)

    def test_bytes_come_back_as_they_were_sent(self, alice: Device, bob: Device) -> None:
        wanted = [b"", b"\0\xff\xfe", b"text as bytes", bytes(range(256))]
        for raw in wanted:
            alice.send(bob, body_base64=base64.b64encode(raw).decode())
        messages = bob.mailbox()
        assert [base64.b64decode(message["body_base64"], validate=True) for message in messages] == wanted
        assert all(message["content_type"] == "application/octet-stream" for message in messages)
        assert all("body" not in message for message in messages)

    def test_the_content_type_comes_back_as_sent(self, alice: Device, bob: Device) -> None:
        alice.send(bob, "# title", content_type="text/markdown; charset=utf-8")
        alice.send(bob, body_base64="iVBORw==", content_type="image/png")
        assert [message["content_type"] for message in bob.mailbox()] == ["text/markdown; charset=utf-8", "image/png"]

    def test_base64_is_padded_and_canonical_or_refused(self, alice: Device, bob: Device) -> None:
        for text in ["====", "A", "QQ", "QUJD\n", "QU JD", "QUJ-", "QR==", "Привіт"]:
            problem(alice.post(bob, body_base64=text), "invalid_request")
        assert bob.mailbox() == []


class TestPages:
    def test_any_page_size_walks_the_whole_mailbox(self, alice: Device, bob: Device) -> None:
        wanted = [str(number) for number in range(50)]
        alice.send_all(bob, wanted)
        for limit in (1, 7, 50, 500):
            pages = bob.pages(limit=limit)
            messages = list(itertools.chain.from_iterable(page["messages"] for page in pages))
            assert bodies(messages) == wanted
            assert all(page["pending"] == 50 for page in pages)
            assert all(len(page["messages"]) == limit for page in pages[:-1])
            positions = [message["position"] for message in messages]
            assert positions == sorted(set(positions))
            assert positions[-1] < 2**53

    def test_100_is_the_default(self, alice: Device, bob: Device) -> None:
        alice.send_all(bob, ["x"] * 101)
        page = bob.page()
        assert (len(page["messages"]), page["has_more"], page["pending"]) == (100, True, 101)

    def test_a_page_holds_at_most_1_mib(self, alice: Device, bob: Device) -> None:
        wanted = [f"{number:02}" * (32 * KIB) for number in range(20)]
        for body in wanted:
            alice.send(bob, body)
        pages = bob.pages(limit=500)
        sizes = [sum(len(message["body"].encode()) for message in page["messages"]) for page in pages]
        assert 15 * 64 * KIB <= sizes[0] <= KIB * KIB
        assert bodies([message for page in pages for message in page["messages"]]) == wanted

    def test_an_empty_page_returns_the_cursor_it_got(self, alice: Device, bob: Device) -> None:
        fresh = bob.page()
        assert (fresh["messages"], fresh["has_more"], fresh["pending"]) == ([], False, 0)
        assert fresh["cursor"]
        alice.send(bob, "one")
        end = bob.page(cursor=fresh["cursor"])["cursor"]
        assert bob.page(cursor=end)["cursor"] == end
        assert bob.page(cursor=end)["messages"] == []

    def test_a_cursor_pages_on_while_others_write_and_this_one_acknowledges(self, alice: Device, bob: Device) -> None:
        alice.send_all(bob, [str(number) for number in range(10)])
        first = bob.page(limit=4)
        bob.ack(ids(first["messages"])[1:3])
        alice.send(bob, "10")
        assert bodies(bob.mailbox(cursor=first["cursor"])) == [str(number) for number in range(4, 11)]
        assert bodies(bob.mailbox()) == ["0", "3", *(str(number) for number in range(4, 11))]


class TestCursors:
    def test_that_were_changed_or_are_another_devices_are_refused(self, alice: Device, bob: Device) -> None:
        alice.send_all(bob, ["a", "b", "c"])
        cursor = bob.page(limit=1)["cursor"]
        laptop = bob.person.device("laptop")
        for device, wrong in [
            (laptop, cursor),
            (alice, cursor),
            (bob, alice.page()["cursor"]),
            (bob, "nonsense"),
            (bob, cursor + "A"),
            (bob, cursor[:-1]),
            (bob, cursor[::-1]),
            (bob, "Привіт"),
            (bob, "1"),
            (bob, "\0"),
            *((bob, cursor[:place] + chr(ord(cursor[place]) ^ 1) + cursor[place + 1 :]) for place in range(len(cursor))),
        ]:
            problem(device.call("GET", "/messages/sync", params={"cursor": wrong}), "bad_cursor")
            problem(device.call("POST", "/messages/ack", json={"up_to": wrong}), "bad_cursor", "invalid_request")
        assert bodies(bob.mailbox(cursor=cursor)) == ["b", "c"]

    def test_acknowledge_all_that_they_have_passed(self, alice: Device, bob: Device) -> None:
        start = bob.page()["cursor"]
        alice.send_all(bob, [str(number) for number in range(1300)])
        assert bob.ack_up_to(start) == 0
        third = bob.pages(limit=200)[2]
        bob.ack(ids(third["messages"])[:5])
        assert bob.ack_up_to(third["cursor"]) == 595, "600 were passed and five of them acknowledged before"
        assert bob.ack_up_to(third["cursor"]) == 0
        assert bodies(bob.mailbox()) == [str(number) for number in range(600, 1300)]
        end = bob.pages(limit=500)[-1]["cursor"]
        alice.send(bob, "later")
        assert bob.ack_up_to(end) == 700
        assert bodies(bob.mailbox()) == ["later"]

    def test_stay_good_when_the_api_is_another_process(self, service: Service, alice: Device, bob: Device) -> None:
        alice.send_all(bob, [str(number) for number in range(6)])
        cursor = bob.page(limit=2)["cursor"]
        service.kill("api")
        service.becomes_healthy()
        assert bodies(bob.mailbox(limit=3, cursor=cursor)) == ["2", "3", "4", "5"]
        assert bob.ack_up_to(cursor) == 2


class TestAcknowledging:
    def test_is_final_and_idempotent(self, alice: Device, bob: Device) -> None:
        sent = alice.send_all(bob, ["a", "b", "c"])
        stranger = str(uuid.uuid4())
        assert bob.ack(sent[:2]) == {"acknowledged": sent[:2], "already": [], "unknown": []}
        assert bob.ack([*sent, stranger]) == {"acknowledged": [sent[2]], "already": sent[:2], "unknown": [stranger]}
        times = [alice.status(message_id)["delivered_at"] for message_id in sent]
        assert bob.ack(sent)["already"] == sent
        assert [alice.status(message_id)["delivered_at"] for message_id in sent] == times, "a repeat changes nothing"
        assert bob.mailbox() == []

    def test_the_same_id_twice_counts_once(self, alice: Device, bob: Device) -> None:
        (message_id,) = alice.send_all(bob, ["a"])
        answer = bob.ack([message_id, message_id])
        assert answer["acknowledged"] == [message_id]
        assert answer["unknown"] == []

    def test_500_ids_at_once(self, alice: Device, bob: Device) -> None:
        sent = alice.send_all(bob, [str(number) for number in range(501)])
        problem(bob.call("POST", "/messages/ack", json={"ids": sent}), "invalid_request")
        problem(bob.call("POST", "/messages/read", json={"ids": sent}), "invalid_request")
        problem(bob.call("POST", "/messages/status", json={"ids": sent}), "invalid_request")
        asked = personal(alice.call("POST", "/messages/status", json={"ids": sent[:500]}))
        assert [status["id"] for status in asked["messages"]] == sent[:500]
        assert bob.ack(sent[:500])["acknowledged"] == sent[:500]
        assert ids(bob.mailbox()) == sent[500:]

    def test_reading_implies_it(self, alice: Device, bob: Device) -> None:
        first, second = alice.send_all(bob, ["a", "b"])
        assert bob.read([first]) == {"acknowledged": [first], "already": [], "unknown": []}
        assert ids(bob.mailbox()) == [second]
        status = alice.status(first)
        assert status["status"] == "Read"
        assert status["delivered_at"] == status["read_at"]
        assert [event["state"] for event in alice.trail(first)["events"]][-2:] == ["Delivered", "Read"]
        assert bob.read([first])["already"] == [first]
        assert bob.ack([first])["already"] == [first]
        assert alice.status(first) == status, "a status never goes back"

    def test_of_many_at_once_counts_each_once(self, alice: Device, bob: Device) -> None:
        sent = alice.send_all(bob, [str(number) for number in range(100)])
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: bob.ack(sent), range(4)))
        assert all(sorted(answer["acknowledged"] + answer["already"]) == sorted(sent) for answer in answers)
        assert bob.mailbox() == []
        assert len({alice.status(message_id)["delivered_at"] for message_id in sent}) <= len(answers)


class TestDevices:
    def test_each_has_its_own_view(self, alice: Device, bob: Device) -> None:
        laptop = bob.person.device("laptop")
        sent = alice.send_all(bob, ["a", "b", "c"])
        assert bob.ack(sent[:2])["acknowledged"] == sent[:2]
        assert ids(laptop.mailbox()) == sent, "an ack is its device's own"
        assert laptop.ack(sent)["acknowledged"] == sent
        assert ids(bob.mailbox()) == sent[2:]
        assert bob.status(sent[2])["devices"] == [
            {"device_id": laptop.device_id, "delivered_at": alice.status(sent[2])["delivered_at"]}
        ]
        bob.ack(sent[2:])
        devices = {row["device_id"] for row in bob.status(sent[2])["devices"]}
        assert devices == {bob.device_id, laptop.device_id}
        assert bob.mailbox() == laptop.mailbox() == []

    def test_a_new_one_starts_with_what_none_has_acknowledged(self, service: Service, alice: Device) -> None:
        carol = phone_of(service, "carol")
        sent = alice.send_all(carol, ["a", "b", "c"])
        carol.ack(sent[1:2])
        tablet = carol.person.device("tablet")
        assert ids(tablet.mailbox()) == [sent[0], sent[2]]
        carol.ack(sent[:1])
        assert ids(tablet.mailbox()) == [sent[0], sent[2]], "what was acknowledged since, the tablet still wants"

    def test_the_first_gets_what_came_before_it(self, service: Service, alice: Device) -> None:
        name = f"late-{uuid.uuid4().hex[:12]}"
        good(service.request("POST", "/accounts", json={"name": name, "password": "long enough"}), 201)
        alice.send(name, "you have no device yet")
        login = {"name": name, "password": "long enough", "device": "first"}
        token = personal(service.request("POST", "/tokens", json=login))["access_token"]
        page = good(service.request("GET", "/messages/sync", token=token))
        assert bodies(page["messages"]) == ["you have no device yet"]


class TestOneself:
    def test_may_be_the_recipient(self, bob: Device) -> None:
        message_id = bob.send(bob, "remember the milk")
        (message,) = bob.mailbox()
        assert (message["id"], message["from"], message["body"]) == (message_id, bob.name, "remember the milk")
        bob.read([message_id])
        assert bob.status(message_id)["status"] == "Read"
        assert [row["device_id"] for row in bob.status(message_id)["devices"]] == [bob.device_id]


class TestUnknownIds:
    @pytest.mark.parametrize("path", ["/messages/{}", "/messages/{}/trail"])
    def test_of_messages(self, bob: Device, path: str) -> None:
        for wrong in (str(uuid.uuid4()), "0" * 8 + "-0000-0000-0000-" + "0" * 12):
            problem(bob.call("GET", path.format(wrong)), "message_unknown")
        for odd in ("not-an-id", "%00", "1", "%D0%9F"):
            problem(bob.call("GET", path.format(odd)), "message_unknown", "invalid_request", "not_found")

    def test_among_several(self, alice: Device, bob: Device) -> None:
        mine = alice.send(bob, "x")
        bob.ack([mine])
        wrong = str(uuid.uuid4())
        answer = personal(alice.call("POST", "/messages/status", json={"ids": [wrong, mine]}))
        assert answer.keys() == {"messages", "unknown"}
        assert answer["unknown"] == [wrong]
        assert answer["messages"] == [alice.status(mine)]

    def test_of_recipients(self, alice: Device) -> None:
        problem(alice.post("nobody-of-that-name", "x"), "recipient_unknown")
