"""Every row of bad input that the commands must answer: what is typed, and how the one line of the answer begins.

Words in braces are places of :class:`test_bad_input.World`. A file fault is written as a domain of its own name.
"""

from worlds import TINY

HEADER = b"user_id:token\titem_id:token\ttimestamp:float\n"
EVENTS = b"".join(b"u%d\ti%d\t%d\n" % (user, (user + step) % 5, step) for user in range(6) for step in range(6))
TYPED = HEADER + EVENTS

# name of the fault -> (NAME.inter, the line at fault, what is said of it)
FILES = {
    "empty": (b"", 1, "the file is empty; "),
    "header-alone": (HEADER, 1, "no rows after the header; "),
    "no-types": (TYPED.replace(b":token", b"").replace(b":float", b""), 1, "header field 'user_id' has no type; "),
    "no-time": (TYPED.replace(b"timestamp", b"when"), 1, "no column timestamp; "),
    "empty-time": (HEADER + b"u1\ti1\t\n" + EVENTS, 2, "timestamp is empty; "),
    "word-as-time": (HEADER + b"u1\ti1\tyesterday\n" + EVENTS, 2, "timestamp 'yesterday' is not a finite number; "),
    "infinite-time": (HEADER + b"u1\ti1\tinf\n" + EVENTS, 2, "timestamp 'inf' is not a finite number; "),
    "ragged": (HEADER + b"u1\ti1\n" + EVENTS, 2, "2 fields where the header has 3; "),
    "commas": (TYPED.replace(b"\t", b","), 1, "columns are separated by a comma, not by a tab; "),
    "commas-below": (HEADER + EVENTS.replace(b"\t", b","), 2, "1 field where the header has 3; this line is"),
    "latin-1": (HEADER + "café\ti1\t1\n".encode("latin-1") + EVENTS, 2, "byte 47 of the file is not utf-8 "),
    "no-user": (TYPED.replace(b"user_id", b"who"), 1, "no column user_id; "),
    "no-item": (TYPED.replace(b"item_id", b"what"), 1, "no column item_id; "),
}

_SMALL = " ".join(f"--{key}={value}".replace(" ", "") for key, value in TINY.items() if key != "vq_heads")
_FEW = f"--seeds 1 --jobs 1 {_SMALL}"
# command -> how it reads a domain as its target, or as a source beside a good target
AS_TARGET = {
    "train": "train --dataset {name} --data_path {data} --sources none",
    "train LRURec": "train --model LRURec --dataset {name} --data_path {data}",
    "train SASRec": "train --model SASRec --dataset {name} --data_path {data}",
    "train Caser": "train --model Caser --dataset {name} --data_path {data}",
    "train with exact time": "train --model LRURec --dataset {name} --data_path {data} --exact_time",
    "leaderboard": f"leaderboard --dataset {{name}} --data_path {{data}} --models Pop,LRURec {_FEW}",
    "tune": f"tune --dataset {{name}} --data_path {{data}} --model LRURec --trials 1 {_SMALL}",
    "ablate": f"ablate --dataset {{name}} --data_path {{data}} --sources Near --variants uniform {_FEW}",
    "sweep": f"sweep temperature=1 --dataset {{name}} --data_path {{data}} --sources Near {_FEW}",
    "inspect": "inspect {name} --data_path {data}",
    "split": "split {name} --data_path {data}",
}
AS_SOURCE = {
    "train": "train --dataset Good --data_path {data} --sources Near,{name}",
    "leaderboard": f"leaderboard --dataset Good --data_path {{data}} --models MetaRec --sources {{name}} {_FEW}",
    "tune": f"tune --dataset Good --data_path {{data}} --model MetaRec --sources {{name}} --trials 1 {_SMALL}",
    "ablate": f"ablate --dataset Good --data_path {{data}} --sources Near,{{name}} --variants uniform {_FEW}",
    "sweep": f"sweep temperature=1 --dataset Good --data_path {{data}} --sources {{name}} {_FEW}",
    "inspect": "inspect Good {name} --data_path {data}",
}
