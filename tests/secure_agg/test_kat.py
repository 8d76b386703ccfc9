"""Known answers, and the second implementation on the same inputs."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from secure_agg import keys, shamir
from secure_agg.encoding import encode_masked
from secure_agg.masks import CHUNK_BYTES, MaskStream, has_wide_aes
from secure_agg.plan import Plan, Purpose, TensorField, Weighting, make_plan
from secure_agg.thresholds import colluding_default, threshold
from tests.secure_agg import second

KAT = json.loads((Path(__file__).parent / "kat.json").read_text(encoding="utf-8"))
KDF, PRG, SHAMIR = KAT["kdf"], KAT["prg"], KAT["shamir_t3_n5"]


def known(name: str) -> bytes:
    return bytes.fromhex(KDF[name])


def test_chain_of_keys():
    first = keys.first_chain_key(known("ss"), known("job_ctx"), 0, 1)
    step = keys.ratchet(first, 1)
    of_round = keys.round_key(step, known("round_ctx"))
    seed = keys.mask_seed(of_round)
    assert (first, step, of_round) == (known("CK0"), known("CK1"), known("RK1"))
    assert (seed, keys.share_key(of_round, 0, 1)) == (known("k_mask"), known("k_share_0to1"))
    assert keys.pair_tag(seed) == known("tag")
    assert len(keys.pair_tag(seed)) == keys.TAG_BYTES


def test_second_implementation_has_the_same_chain_and_contexts():
    assert second.chain(known("ss"), known("job_ctx"), 0, 1, 0) == known("CK0")
    assert second.chain(known("ss"), known("job_ctx"), 0, 1, 1) == known("CK1")
    assert second.expand(known("CK1"), "rk", known("round_ctx")) == known("RK1")
    job_ctx = keys.job_context("Lung study 7", 3, bytes(range(32)))
    assert job_ctx == second.job_context("Lung study 7", 3, bytes(range(32)))
    order = (job_ctx, 9, (0, 2, 300), known("ss"), b"plan")
    assert keys.round_context(*order) == second.round_context(*order)
    assert keys.commit(b"x") == second.digest("com", b"x") != keys.digest("com", b"", b"x")


def test_stream_is_aes_256_ctr():
    stream = MaskStream(bytes.fromhex(PRG["key"]))
    start = stream.take(32).copy()
    assert start.tobytes().hex() == PRG["first32_bytes"]
    assert start.view("<u4").tolist() == PRG["u32"]
    assert [str(word) for word in start.view("<u8")] == PRG["u64"]
    assert second.aes256(
        second.round_keys(bytes(range(32))), bytes.fromhex("00112233445566778899aabbccddeeff")
    ) == (bytes.fromhex("8ea2b7ca516745bfeafc49904b496089"))  # FIPS 197, C.3


def test_stream_can_begin_anywhere():
    seed = bytes.fromhex(PRG["key"])
    assert MaskStream(seed, 2**32).take(32).tobytes().hex() == PRG["at_2_to_32"]
    assert second.stream(seed, 32, 2**32).hex() == PRG["at_2_to_32"]
    whole = MaskStream(seed).take(CHUNK_BYTES).copy()
    assert MaskStream(seed, 4096).take(100).tobytes() == whole[4096:4196].tobytes()
    in_parts = MaskStream(seed)
    assert b"".join(in_parts.take(size).tobytes() for size in (1, 7, 0, 16, 33)) == whole[:57].tobytes()


@pytest.mark.parametrize("sizes", [(1, 7, 0, 16, 33), (32, 31), (40,), (0, 31, 1, 16, 5), (CHUNK_BYTES, 100)])
def test_the_way_to_the_stream_changes_no_byte(sizes):
    seed = bytes.fromhex(PRG["key"])
    wide, narrow = (MaskStream(seed, wide=wide) for wide in (True, False))
    found = [b"".join(stream.take(size).tobytes() for size in sizes) for stream in (wide, narrow)]
    assert found[0] == found[1]
    assert found[0][:64] == second.stream(seed, 64)[: sum(sizes)]
    assert type(wide._stream) is not type(narrow._stream)


def test_wide_aes_is_what_numpy_found():
    assert has_wide_aes({"SIMD Extensions": {"found": ["AVX2", "AVX512_ICL"]}})
    for config in (None, {}, {"SIMD Extensions": {}}, {"SIMD Extensions": {"found": ["AVX2"]}}):
        assert not has_wide_aes(config)


@pytest.mark.parametrize("bit", range(256))
def test_every_bit_of_a_seed_counts(bit):
    seed = bytearray(bytes.fromhex(PRG["key"]))
    seed[bit // 8] ^= 1 << bit % 8
    changed = MaskStream(bytes(seed)).take(64)
    assert not np.array_equal(changed, MaskStream(bytes.fromhex(PRG["key"])).take(64))


@pytest.mark.parametrize("ring", [32, 64])
def test_encoding_of_numbers(ring):
    known_answer = KAT[f"encode_ring{ring}"]
    values = np.array(known_answer["input"], np.float32)
    plan = make_plan(
        fields=[TensorField("x", "float32", values.shape, Weighting.MEAN, 0)], purpose=Purpose.TRAIN,
        ring=ring, weight_max=known_answer["Wmax"], colluding=2, cohort_min=3, site_count=8,
    )  # fmt: skip
    assert plan.fraction_bits(plan.fields[0]) == known_answer["f"]
    vector = encode_masked(plan, {"x": values}, known_answer["w"], {}, [])
    main = vector[: plan.main_bytes].view(f"<i{ring // 8}")
    assert [str(word) for word in main] == known_answer["encoded"]
    assert vector[plan.statistics_offset :].view("<u8")[1] == known_answer["clipped"] == 1
    share = known_answer["w"] if ring == 64 else second.Fraction(known_answer["w"], known_answer["Wmax"])
    encoded = [second.encode(float(x), ring, known_answer["f"], 0, share)[0] for x in values]
    assert encoded == [int(word) % 2**ring for word in known_answer["encoded"]]


def mixed_plan(ring: int) -> Plan:
    fields = [
        TensorField("b", "float64", (2, 0), Weighting.MEAN, 0),
        TensorField("a", "float32", (3, 3), Weighting.MEAN, 1),
        TensorField("o", "float16", (), Weighting.EACH, -2),
        TensorField("c", "float64", (5,), Weighting.SUM, 3),
    ]
    if ring == 64:
        fields.append(TensorField("count", "int64", (3,), Weighting.SUM, 30))
    return make_plan(
        fields=fields, statistics=["loss", "accuracy"], purpose=Purpose.TRAIN, ring=ring, weight_max=1024,
        colluding=2, cohort_min=3, site_count=8,
    )  # fmt: skip


@pytest.mark.parametrize("ring", [32, 64])
def test_second_implementation_makes_the_same_masked_vector(ring):
    plan, numbers = mixed_plan(ring), np.random.default_rng(5)
    whole = {item.name: numbers.integers(-(2**13), 2**13, item.shape) for item in plan.fields}
    tensors = {
        item.name: np.asarray(
            whole[item.name] if item.dtype == "int64" else whole[item.name] / 2**10, item.dtype
        )
        for item in plan.fields
    }
    statistics = {"loss": 0.7, "accuracy": -3.25}
    masks = [(hashlib.sha256(bytes([i])).digest(), sign) for i, sign in enumerate((1, -1, 1))]
    fields = [
        (
            tensors[item.name].ravel().tolist(), plan.fraction_bits(item), item.log2_clip,
            item.weighting is Weighting.MEAN, item.dtype == "int64",
        )
        for item in plan.fields
    ]  # fmt: skip
    expected = second.masked_vector(ring, fields, 777, 1024, [-3.25, 0.7], masks)
    assert encode_masked(plan, tensors, 777, statistics, masks).tobytes() == expected
    assert len(expected) == plan.vector_bytes


def test_shamir_shares():
    secret = bytes.fromhex(SHAMIR["secret"])
    drawn = [hashlib.shake_256(b"kat" + bytes([i])).digest(48) for i in (1, 2)]
    source = iter(drawn)
    shares = shamir.split(secret, 3, 5, lambda size: next(source)[:size])
    assert [share.hex() for share in shares] == SHAMIR["shares"]
    coefficients = [int.from_bytes(part, "big") for part in (secret, *drawn)]
    assert [second.share(coefficients, x) for x in range(1, 6)] == shares
    assert shamir.reconstruct({x: shares[x - 1] for x in (1, 3, 5)}) == secret


def test_thresholds_of_every_size():
    for count, (needed, colluding) in KAT["thresholds"].items():
        assert colluding_default(int(count)) == colluding
        assert threshold(int(count), colluding, 3) == needed
