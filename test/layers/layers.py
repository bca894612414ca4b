"""The layering rules of docs/ARCHITECTURE.md as tables, and the two checkers that read them."""

import pathlib
import re
import subprocess

# What a folder may include directly, besides its own headers. The same table as in src/meson.build, and
# in addition `port`, which has headers only.
MAY_INCLUDE = {
    "base": set(),
    "raft": {"base"},
    "store": {"base"},
    "storage": {"base"},
    "wire": {"base"},
    "port": {"base"},
    "replica": {"raft", "store", "storage", "base"},
    "api": {"replica", "wire", "base"},
    "drive": {"api", "wire", "replica", "storage", "port", "base"},
    "os": {"port", "base"},
    "client": {"wire", "port", "base"},
    "node": {"drive", "os", "port", "base"},
    "cli": {"node", "client", "os", "storage", "port", "base", "sim"},
    "sim": {"drive", "client", "port", "base"},
}

PURE = ["raft", "store", "storage", "replica", "wire", "api"]

# The simulator's checkers compare what the cluster did with what it should have done, and for that may
# read every pure header. They are the files sim/sim_check*.[ch] and sim_contents.[ch]; the keeper of books, which knows what is durable where; and the
# middle box, which meddles with the peer protocol's frames.
SIM_CHECKER = re.compile(r"^sim_(check|contents|sweep|keeper|middle_box)")

# Headers from outside the repo. Those of the pure folders are the freestanding ones, string.h for mem*
# and str*, and inttypes.h for its format macros.
PURE_SYSTEM_HEADERS = {
    "inttypes.h",
    "limits.h",
    "stdalign.h",
    "stdarg.h",
    "stdbool.h",
    "stddef.h",
    "stdint.h",
    "string.h",
}
# Third-party headers, and the only folders that may see them.
LIBRARY_HEADERS = {
    re.compile(r"^jansson\.h$"): {"wire", "api", "node", "cli", "sim"},
    re.compile(r"^nghttp2/"): {"wire"},
    re.compile(r"^protobuf-c/"): {"replica", "wire", "api"},
    re.compile(r"^uv\.h$"): {"os"},
    re.compile(r"^openssl/"): {"os"},
}
# Generated from proto/*.proto; "peer" speaks between members, the rest is the API's.
GENERATED_HEADERS = {
    re.compile(r"^proto/peer\.pb-c\.h$"): {"replica"},
    re.compile(r"^proto/(?!peer).*\.pb-c\.h$"): {"wire", "api", "client"},
}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def folder_of(path, root):
    parts = path.relative_to(root).parts
    return parts[1] if parts[0] == "src" else parts[0]


def source_files(root):
    for top in [root / "src", root / "sim"]:
        yield from sorted(path for path in top.rglob("*.[ch]") if path.is_file())


def include_violations(root):
    """Every #include that breaks the rules, as "path:line: why"."""
    root = pathlib.Path(root)
    violations = []
    for path in source_files(root):
        folder = folder_of(path, root)
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            match = INCLUDE.match(line)
            if not match:
                continue
            why = include_violation(folder, path.name, match[1] == '"', match[2])
            if why:
                violations.append(f"{path.relative_to(root)}:{number}: {why}")
    return violations


def include_violation(folder, file_name, quoted, header):
    if folder not in MAY_INCLUDE:
        return f"the folder {folder} has no row in the table of layers"
    for table in (LIBRARY_HEADERS, GENERATED_HEADERS):
        for pattern, folders in table.items():
            if pattern.match(header):
                return None if folder in folders else f"{folder} may not use {header}"
    if not quoted:
        if folder in PURE and header not in PURE_SYSTEM_HEADERS:
            return f"{folder} is pure and may not include <{header}>"
        return None
    used, slash, _ = header.partition("/")
    if not slash:
        return f'"{header}" names no folder; the include roots are src/ and the repo\'s root'
    if used == folder or used in MAY_INCLUDE[folder]:
        return None
    if folder == "sim" and SIM_CHECKER.match(file_name) and used in PURE:
        return None
    return f"{folder} may not include {used}"


# Symbols that pure objects may leave to the linker.
ALLOWED_SYMBOLS = re.compile(
    r"""^(?:
        mem(?:cpy|move|set|cmp|chr|rchr|mem)
      | str(?:len|nlen|cmp|ncmp|chr|rchr|chrnul|str|spn|cspn|pbrk)
      | __(?:asan|ubsan|tsan|sanitizer|lsan)_\w+             # the sanitizers' runtime
      | __(?:start|stop)_asan_globals
      | __sanitizer_cov_\w+ | __gcov_\w+
      | __stack_chk_fail | _GLOBAL_OFFSET_TABLE_ | _Unwind_Resume
      | __u?(?:div|mod|divmod|mul|mulo)[sdt]i[345]?          # libgcc's arithmetic
      | __(?:popcount|clz|ctz|bswap|ashl|ashr|lshr)[sdt]i[2345]
    )$""",
    re.VERBOSE,
)

# The named functions of third-party libraries that pure objects may call. What reads a clock, a file or a
# global seed is not among them: nghttp2's contract is bytes in, bytes out; jansson is used on memory only.
LIBRARY_SYMBOLS = [
    (re.compile(r"^nghttp2_(?!.*_recv$|.*_send$).+$"), {"wire"}),
    (re.compile(r"^nghttp2_session_mem_(?:recv|send)$"), {"wire"}),
    (
        re.compile(
            r"""^(?:
                json_(?:object|array|string|integer|real|number|boolean|true|false|null)(?:_\w+)?
              | json_(?:loadb|loads|dumpb|dumps|delete|copy|deep_copy|equal|set_alloc_funcs|object_seed)
              | jsonp_\w+ | json_(?:unpack|pack)(?:_ex)?
            )$""",
            re.VERBOSE,
        ),
        {"wire", "api"},
    ),
    (re.compile(r"^protobuf_c_\w+$"), {"replica", "wire", "api", "proto"}),
]

# Variables in pure objects must be constants: state belongs to an object that has an owner.
WRITABLE_SECTION = re.compile(r"^(?:\.data(?!\.rel\.ro)|\.bss|\.tbss|\.tdata|COMMON|\*COM\*)")
# The sanitizers keep their own books in writable sections.
SANITIZER_OBJECT = re.compile(r"^(?:\.L|__asan|__odr_asan|__ubsan|__tsan|__sancov)|^\*?\.L|_kind\.|\.LASAN|^_ZTV")


def nm(archive, *options):
    return subprocess.run(
        ["nm", "--format=posix", *options, str(archive)], check=True, capture_output=True, text=True
    ).stdout


def undefined_symbols(archive):
    """(member, symbol) of all that the archive's members leave to others."""
    member = "?"
    for line in nm(archive, "--undefined-only").splitlines():
        heading = re.match(r"^.*\[(.+)\]:$", line)
        if heading:
            member = pathlib.Path(heading[1]).name
            continue
        fields = line.split()
        if len(fields) >= 2:
            yield member, fields[0]


def defined_symbols(archive):
    return {
        line.split()[0]
        for line in nm(archive, "--defined-only", "--extern-only").splitlines()
        if len(line.split()) >= 2
    }


def writable_objects(archive):
    """(member, symbol) of the variables that the archive's members could change."""
    listing = subprocess.run(["objdump", "-t", str(archive)], check=True, capture_output=True, text=True).stdout
    member = "?"
    for line in listing.splitlines():
        heading = re.match(r"^(\S+):\s+file format", line)
        if heading:
            member = pathlib.Path(heading[1]).name
            continue
        match = re.match(r"^[0-9a-f]+ .{7} (\S+)\s+([0-9a-f]+) (?:\.hidden )?(\S+)$", line)
        if match and WRITABLE_SECTION.match(match[1]) and int(match[2], 16) > 0:
            if match[3] != match[1] and not SANITIZER_OBJECT.search(match[3]):
                yield member, match[3]


def archives_of(build_dir):
    """Folder to archive, for all folders that have one."""
    found = {}
    for path in sorted(pathlib.Path(build_dir).rglob("libcoracle_*.a")):
        found[path.stem.removeprefix("libcoracle_")] = path
    return found


# Folders that a folder reaches without including them: replica.h hands out its store, for reading.
HANDED = {"api": {"store"}}


def may_link(folder):
    """The folders whose symbols a folder may use: what it may include or is handed, and the code generated for it."""
    allowed = {folder} | MAY_INCLUDE.get(folder, set()) | HANDED.get(folder, set())
    return allowed | {"proto"} if folder in {"replica", "wire", "api"} else allowed


def symbol_violations(archives):
    """Every symbol that makes a pure object impure, as "member: why"."""
    violations = []
    defined = {folder: defined_symbols(archive) for folder, archive in archives.items()}
    for folder, archive in archives.items():
        if folder not in PURE and folder != "proto":
            continue
        usable = set().union(*(defined.get(used, set()) for used in may_link(folder)))
        for member, symbol in undefined_symbols(archive):
            if symbol in usable or ALLOWED_SYMBOLS.match(symbol):
                continue
            if any(pattern.match(symbol) and folder in folders for pattern, folders in LIBRARY_SYMBOLS):
                continue
            violations.append(f"{folder}: {member} uses {symbol}")
        for member, symbol in writable_objects(archive):
            violations.append(f"{folder}: {member} has the variable {symbol}")
    return violations
