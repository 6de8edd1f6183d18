"""What happens to files: bytes flipped, cut off, repeated; JSON with other values; archives packed again."""

import io
import json
import zipfile

import numpy as np

_LENGTHS = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFF, 12345678)
_WORDS = (b"\0" * 8, b"\xff" * 8, b"(", b"'", b"PK\1\2", b"\x93NUMPY", b"{", b"[" * 50, b"IHDR", b"\xff\xd8", b"-1")


def choose(random, options):
    return options[random.randint(len(options))]


def damage_bytes(content, random):
    """One to four places are changed."""
    content = bytearray(content)
    for _ in range(random.randint(1, 5)):
        if not content:
            return bytes(choose(random, _WORDS))
        place = random.randint(len(content))
        kind = random.randint(6)
        if kind == 0:
            content[place] ^= 1 << random.randint(8)
        elif kind == 1:
            del content[place:]
        elif kind == 2:
            content[place : place + 4] = int(choose(random, _LENGTHS)).to_bytes(4, choose(random, ("big", "little")))
        elif kind == 3:
            content[place:place] = choose(random, _WORDS)
        elif kind == 4:
            del content[place : place + random.randint(1, 64)]
        else:
            length = random.randint(1, 64)
            other = random.randint(len(content))
            content[place : place + length] = content[other : other + length]
    return bytes(content)


def odd_value(random):
    deep = []
    for _ in range(3000):
        deep = [deep]
    odd = (
        None, True, 0, -1, 1, 3.7, 1e308, float("nan"), float("inf"), 10**30, -(10**30), 2**31, 2**62, "", "x", "a\nb",
        "\ud800", "../../x", "/dev/zero", "\0", "$x$", "[red]", [], {}, [1, 2, 3], [[]], {"x": 1}, deep, "9" * 500,
    )  # fmt: skip
    return choose(random, odd)


def damage_json(value, random):
    """A key or an element is dropped, added, or gets another value, anywhere."""
    value = json.loads(json.dumps(value))
    places = []

    def visit(node):
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            places.append((node, key))
            visit(node[key])

    visit(value)
    for _ in range(random.randint(1, 3)):
        if not places:
            return odd_value(random)
        node, key = choose(random, places)
        kind = random.randint(4)
        try:
            if kind == 0:
                del node[key]
            elif kind == 1 and isinstance(node, dict):
                node[f"{key}x"] = odd_value(random)
            else:
                node[key] = odd_value(random)
        except (IndexError, KeyError):  # dropped before
            pass
    return value


def dump(value):
    try:
        return json.dumps(value)
    except RecursionError:
        return "[" * 100000


def damage_archive(content, random, members=None):
    """A zip file: a member is damaged and packed again by some method, or the file's own bytes are."""
    if random.randint(3) == 0:
        return damage_bytes(content, random)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    name = choose(random, members or list(parts))
    kind = random.randint(4)
    if kind == 0 and name in parts:
        del parts[name]
    elif kind == 1 and name.endswith(".json"):
        parts[name] = dump(damage_json(json.loads(parts[name]), random)).encode()
    else:
        parts[name] = damage_bytes(parts[name], random)
    packed = io.BytesIO()
    method = choose(random, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    with zipfile.ZipFile(packed, "w", method) as archive:
        for member, part in parts.items():
            archive.writestr(member, part)
    packed = bytearray(packed.getvalue())
    entry = packed.find(b"PK\1\2")
    if random.randint(6) == 0 and entry > 0:
        packed[entry + choose(random, (8, 10, 20, 24))] ^= choose(random, (1, 99, 255))  # encrypted, method, sizes
    return bytes(packed)


def damage_arrays(arrays, random):
    """An .npz: an array gets another type, shape or values, a header of its own, or the archive is damaged."""
    arrays = dict(arrays)
    stream = io.BytesIO()
    kind = random.randint(5)
    if kind == 0:
        np.savez(stream, **arrays)
        return damage_archive(stream.getvalue(), random)
    name = choose(random, list(arrays))
    array = arrays[name]
    if kind == 1:
        floats = array.astype(float) if array.dtype.kind in "biuf" and array.ndim else np.linspace(-1, 300, 12)
        odd = (
            array.astype(str), array.astype(bytes), array.astype(bool), floats.astype(complex), floats.astype(">f8"),
            floats.astype("f2"), np.zeros(0), np.array(3.7), array[..., np.newaxis], floats[:0], floats[:1],
            floats * np.nan, floats * 1e300, -floats, np.zeros((2, 0, 3)), floats * np.inf, floats.T,
            np.zeros(3, "datetime64[s]"), np.zeros(2, [("a", int)]), floats + 0.5, floats[::-1],
        )  # fmt: skip
        arrays[name] = choose(random, odd)
    elif kind == 2:
        del arrays[name]
    elif kind == 3:
        arrays[choose(random, ("images.npy", "\0", "../x", "x"))] = array
        arrays[name] = np.empty(1, object)
    if kind < 4:
        np.savez_compressed(stream, **arrays) if random.randint(2) else np.savez(stream, **arrays)
        return stream.getvalue()
    shapes = (
        "(10**12,)",
        "(1000000000000, 8, 8, 1)",
        "(99999999999999999999, 8)",
        "(-1, 8)",
        "(2, 8, 8",
        "(4, 8, 8, 1)",
    )
    shape = choose(random, (*shapes, "(True, 8)", "(1.5,)", "((((", "'x'", "(0,)", "()"))
    descr = choose(random, ("'<f4'", "'|O'", "'|u1'", "'<U9'", "'|V0'", "'|S0'", "[('a', '<f4')]", "'x'", "'<M8[s]'"))
    header = f"{{'descr': {descr}, 'fortran_order': {choose(random, ('False', 'True', '3'))}, 'shape': {shape}, }}"
    header = header.encode() + b" " * random.randint(60) + b"\n"
    version = choose(random, (b"\1\0", b"\1\0", b"\2\0", b"\3\0", b"\7\7"))
    length = len(header).to_bytes(2 if version[0] == 1 else 4, "little")
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for other in arrays:
            archive.writestr(f"{other}.npy", b"\x93NUMPY" + version + length + header + b"\0" * random.randint(3000))
    return stream.getvalue()
