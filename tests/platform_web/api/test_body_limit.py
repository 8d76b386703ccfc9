import asyncio

from platform_web.api.body_limit import BodyLimit


async def reads_everything(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})


def ask(chunks, headers=()):
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    sent, read = [], []

    async def receive():
        read.append(1)
        return messages.pop(0) if messages else {"type": "http.request", "body": b""}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "headers": list(headers)}
    asyncio.run(BodyLimit(reads_everything, 10)(scope, receive, send))
    return sent[0]["status"], len(read)


def test_a_body_within_the_limit_passes():
    assert ask([b"12345", b"67890"])[0] == 200


def test_an_announced_large_body_is_refused_before_a_byte_is_read():
    assert ask([b"x"], [(b"content-length", b"200000000")]) == (413, 0)


def test_a_length_that_is_no_number_is_refused():
    assert ask([], [(b"content-length", b"-1")])[0] == 413


def test_a_chunked_large_body_is_refused_where_it_passes_the_limit():
    assert ask([b"x" * 6] * 100) == (413, 2)


def test_the_server_s_lifespan_messages_are_answered():
    sent = []
    incoming = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def run():
        async def receive():
            return incoming.pop(0)

        async def send(message):
            sent.append(message["type"])

        await BodyLimit(reads_everything, 10)({"type": "lifespan"}, receive, send)

    asyncio.run(run())
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
