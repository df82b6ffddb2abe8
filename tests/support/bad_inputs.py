"""Bad input that the commands must answer: what is typed, and how the one line of the answer begins.

Every kind of bad input is shown to one command, and each command is shown one of each class that it can meet.

Words in braces are places of :class:`test_bad_input.World`. A file fault is written as a domain of its own name.
"""

from support.worlds import TINY

HEADER = b"user_id:token\titem_id:token\ttimestamp:float\n"
EVENTS = b"".join(b"u%d\ti%d\t%d\n" % (user, (user + step) % 5, step) for user in range(6) for step in range(6))
TYPED = HEADER + EVENTS

# name of the fault -> (NAME.inter, the line at fault, what is named): tests/data looks at every kind at its reader
FILES = {
    "empty": (b"", 1, "empty"),
    "header-alone": (HEADER, 1, "header"),
    "no-types": (TYPED.replace(b":token", b"").replace(b":float", b""), 1, "user_id"),
    "no-time": (TYPED.replace(b"timestamp", b"when"), 1, "timestamp"),
    "empty-time": (HEADER + b"u1\ti1\t\n" + EVENTS, 2, "timestamp"),
    "word-as-time": (HEADER + b"u1\ti1\tyesterday\n" + EVENTS, 2, "yesterday"),
    "infinite-time": (HEADER + b"u1\ti1\tinf\n" + EVENTS, 2, "inf"),
    "ragged": (HEADER + b"u1\ti1\n" + EVENTS, 2, "2 fields"),
    "commas": (TYPED.replace(b"\t", b","), 1, "comma"),
    "commas-below": (HEADER + EVENTS.replace(b"\t", b","), 2, "1 field"),
    "latin-1": (HEADER + "café\ti1\t1\n".encode("latin-1") + EVENTS, 2, "utf-8"),
    "no-user": (TYPED.replace(b"user_id", b"who"), 1, "user_id"),
    "no-item": (TYPED.replace(b"item_id", b"what"), 1, "item_id"),
}

_SMALL = " ".join(f"--{key}={value}".replace(" ", "") for key, value in TINY.items() if key != "vq_heads")
_NO_MEMORY = " ".join(word for word in _SMALL.split() if "memory" not in word and "seen_offset" not in word)
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


READING = [
    *(("train", AS_TARGET["train"], fault) for fault in FILES),  # every kind of bad file, in one command
    *((f"{command}, target", words, "ragged") for command, words in AS_TARGET.items()),
    *((f"{command}, source", words, "ragged") for command, words in AS_SOURCE.items()),
]


_TRAIN = "train --dataset Good --data_path {data} --sources Near"
_BOARD = f"leaderboard --dataset Good --data_path {{data}} --sources Near --models LRURec,MetaRec {_FEW}"
_TUNE = f"tune --dataset Good --data_path {{data}} --sources Near --model MetaRec --trials 1 {_SMALL}"
_ABLATE = f"ablate --dataset Good --data_path {{data}} --sources Near --variants uniform {_FEW}"
_SWEEP = f"sweep similarity_momentum=0.5 --dataset Good --data_path {{data}} --sources Near {_FEW}"
_TRAINERS = (_TRAIN, _BOARD, _TUNE, _ABLATE, _SWEEP)
_SPLIT = "split Good --data_path {data}"


def _all(words: str, message: str, commands=_TRAINERS) -> list[tuple[str, str]]:
    return [(f"{command} {words}", message) for command in commands]


def _instead(old: str, new: str, message: str, commands=_TRAINERS) -> list[tuple[str, str]]:
    return [(command.replace(old, new), message) for command in commands if old in command]


_EXPLODES = f"{_SMALL} --learner=sgd".replace("--learning_rate=0.01", "--learning_rate=1e30")
# these keep a run folder with the last good model
NOT_FINITE = [
    (f"{_TRAIN} {_EXPLODES}", "epoch 0, step "),
    (f"{_TRAIN} {_SMALL} --inner_learning_rate=1e38", "epoch 0, step 1 of this run: every source (Near) is not "),
    (f"train --model LRURec --dataset Good --data_path {{data}} {_EXPLODES}", "epoch 0, step "),
    (
        f"train --model SASRec --dataset Good --data_path {{data}} {_EXPLODES} --show_progress=False",
        "the training loss is not finite; lower learning_rate; no model was saved before it",
    ),
]
# what is written where nothing can be written: {place} takes no file, or none larger than a few bytes
WRITING = {
    "train": f"{_TRAIN} {_SMALL} --checkpoint_dir={{place}}/saved",
    "train LRURec": f"train --model LRURec --dataset Good --data_path {{data}} {_SMALL} --checkpoint_dir={{place}}/s",
    "train SASRec": f"train --model SASRec --dataset Good --data_path {{data}} {_SMALL} --checkpoint_dir={{place}}/s",
    "leaderboard's store": f"{_BOARD} --store {{place}}/store.sqlite",
    "leaderboard's reports": f"{_BOARD} --output {{place}}/reports",
    "tune": f"{_TUNE} --storage sqlite:///{{place}}/tuning.sqlite",
    "ablate": f"{_ABLATE} --output {{place}}/reports",
    "sweep": f"{_SWEEP} --rows {{place}}/rows.csv",
    "inspect": "inspect Good --data_path {data} --picture {place}/good.png",
    "split": f"{_SPLIT} --output {{place}}/parts",
    "simulate": "simulate --target-users 50 --sources 1 --source-users 50 --output {place}",
    "prepare": "prepare X --raw {log} --user u --item i --time t --data_path {place}",
}

# the ways to write: a run folder, SQLite ours and Optuna's, a report, a figure, domains
ON_A_FULL_DISK = ("train", "train SASRec", "leaderboard's store", "tune", "ablate", "inspect", "simulate", "prepare")

_KEY = "temperatur"  # a slip
TEXT_COLUMN = "{data}/Good/Good.item: no such file, so Good has no item texts; "
# row of the blueprint -> [(what is typed, how the answer begins)]
TYPED = {
    "missing file": [
        *_instead("--dataset Good", "--dataset Absent", "domain Absent is not known: "),
        *_instead("--sources Near", "--sources Absent", "sources: domain Absent is not known: "),
        ("inspect Absent --data_path {data}", "domain Absent is not known: "),
        ("inspect Good Absent --data_path {data}", "domain Absent is not known: "),
        ("split Absent --data_path {data}", "domain Absent is not known: "),
        ("prepare Shop --raw absent.csv", "--raw: there is no file absent.csv; "),
        ("train --config_files absent.yaml", "absent.yaml: no such config file; "),
        ("tune --model LRURec --space absent.yaml --dataset Good --data_path {data}", "absent.yaml: no such "),
        ("neighbours absent", "absent: no such folder; "),
        ("recommend absent.pth --user u", "absent.pth: no such checkpoint; "),
        ("recommend --user u", "saved: there is no finished run; "),
    ],
    "unknown dataset": [
        *_instead("--dataset Good", "--dataset Goood", "domain Goood is not known (did you mean Good?)"),
        ("train --dataset Sciencific", "domain Sciencific is not known (did you mean Scientific?)"),
        ("inspect Goood --data_path {data}", "domain Goood is not known (did you mean Good?)"),
        ("split Goood --data_path {data}", "domain Goood is not known (did you mean Good?)"),
        ("simulate --like Sciencific", "the size of Sciencific is not known; did you mean Scientific?"),
        ("train --dataset Sciencific --simulate", "the size of Sciencific is not known; did you mean Scientific?"),
        ("prepare Sciencific", "Sciencific is not a known domain; did you mean Scientific?"),
        ("train --dataset a/b", "'a/b' is not the name of a domain; "),
    ],
    "unknown source": [
        *_instead("--sources Near", "--sources Nearr", "sources: domain Nearr is not known (did you mean Near?)"),
        ("simulate --sources-like Ofice", "the size of Ofice is not known; did you mean Office?"),
        ("neighbours {run} --sources Nearr", "--sources: Nearr was no source of this run; choose from Near"),
    ],
    "unknown model": [
        (f"{_TRAIN} --model MetaRek", "--model: unknown model MetaRek; did you mean MetaRec?"),
        ("leaderboard --models MetaRek", "--models: unknown model MetaRek; did you mean MetaRec?"),
        ("tune --model sasrek", "--model: unknown model sasrek; did you mean SASRec?"),
        (f"{_SWEEP} --models MetaRek", "--models: unknown model MetaRek; did you mean MetaRec?"),
        ("ablate --variants no-vg", "--variants: unknown variant no-vg; did you mean no-vq?"),
        ("train --config_files {model_yaml}", "{model_yaml}:1: unknown model MetaRek; did you mean MetaRec?"),
        ("trane", "unknown command trane; did you mean train?"),
    ],
    "unknown key": [
        *_all(f"--{_KEY}=1", f"--{_KEY}: unknown config key; did you mean temperature?"),
        (f"{_TRAIN} --{_KEY} 1", f"--{_KEY}: unknown config key; did you mean temperature?"),
        *_all("--config_files {key_yaml}", "{key_yaml}:2: "),
        ("sweep temperatur=1", "sweep: unknown config key temperatur; did you mean temperature?"),
        ("ablate --variants temperatur=1", "--variants: unknown config key temperatur; did you mean temperature?"),
        ("inspect Good --data_path {data} --TIME_FEILD=t", "--TIME_FEILD: not an option of "),
        ("inspect Good --data_path {data} --epochs=1", "--epochs: "),
        ("split Good --cor 3", "--cor: not an option of recbole-metarec split; did you mean --core?"),
        ("simulate --source 3", "--source: not an option of recbole-metarec simulate; did you mean --sources?"),
        ("prepare X --ra a.csv", "--ra: "),
        ("recommend --usr u", "--usr: not an option of recbole-metarec recommend; did you mean --user?"),
        ("neighbours {run} --tpo 3", "--tpo: "),
        ("doctor --epochs=1", "--epochs: "),
    ],
    "target among its sources": [
        *_instead("--sources Near", "--sources Near,Good", "--sources: the target Good is among its sources; "),
        ("simulate --like Office --sources-like Arts,Office", "--sources-like: the target Office is among its "),
    ],
    "same source twice": [
        *_instead("--sources Near", "--sources Near,Near", "--sources: source Near is given twice; "),
        ("simulate --sources-like Arts,Arts", "--sources-like: source Arts is given twice; "),
    ],
    "heads": [
        (f"{_TRAIN} --vq_heads=3", "--vq_heads is 3, which does not divide embedding_size "),
        ("sweep vq_heads=3 --dataset Good --data_path {data}", "sweep: vq_heads is 3, "),
        ("ablate --variants vq_heads=3 --dataset Good --data_path {data}", "--variants: vq_heads is 3, "),
    ],
    "numbers out of range": [
        *_all("--temperature=0", "--temperature is 0; "),
        (f"{_TRAIN} --temperature -0.1", "--temperature is -0.1; "),
        (f"{_TRAIN} --temperature=.nan", "--temperature is nan; "),
        (f"{_TRAIN} --inner_learning_rate=-1e-9", "--inner_learning_rate is -1e-09; "),
        (f"{_TRAIN} --inner_steps=0", "--inner_steps is 0; "),
        ("sweep temperature=1,0", "sweep: temperature is 0; "),
        ("ablate --variants inner_learning_rate=-1", "--variants: inner_learning_rate is -1; "),
    ],
    "nothing left after the filter": [
        *_all(
            "--user_inter_num_interval=[50,inf)", "{data}/Good: Some feat is empty", (_TRAIN, _BOARD, _TUNE, _ABLATE)
        ),
        (
            f"{_TRAIN} --model SASRec --item_inter_num_interval=[99,inf)",
            "{data}/Good: Some feat is empty",
        ),
        (f"{_TRAIN.replace('Near', 'Thin')} --user_inter_num_interval=[6,inf)", "{data}/Thin/Thin.inter: no event "),
        (f"{_BOARD.replace('Near', 'Thin')} --user_inter_num_interval=[6,inf)", "{data}/Thin/Thin.inter: no event "),
        ("inspect Good --data_path {data} --user_inter_num_interval=[50,inf)", "{data}/Good/Good.inter: no event "),
        (f"{_SPLIT} --core 50", "no event is left in a, b; "),
        ("prepare X --raw {log} --user u --item i --time t --core 9", "{log}: nothing is left when every user has 9 "),
    ],
    "no row left": [
        *_instead("--dataset Good", "--dataset Thin", "{data}/Thin: no validation row is left: "),
        ("train --model SASRec --dataset Thin --data_path {data}", "{data}/Thin: no validation row is left: "),
        (
            "train --model Caser --dataset Thin --data_path {data} --topk=1 --valid_metric=NDCG@1",
            "{data}/Thin: no validation row is left: ",
        ),
        ("train --dataset Ones --data_path {data}", "{data}/Ones: no validation row is left: "),
        *_instead("--sources Near", "--sources Ones", "{data}/Ones: no user of this source has two events; "),
    ],
    "no text": [
        ("train --model UniSRec --dataset Good --data_path {data} --sources none", TEXT_COLUMN),
        (f"{_TRAIN} --text_alignment=True", TEXT_COLUMN),
        (
            f"leaderboard --dataset Good --data_path {{data}} --models UniSRec {_NO_MEMORY}",
            "{data}/Good/Good.item: no such",
        ),
        (
            f"tune --dataset Good --data_path {{data}} --model UniSRec --trials 1 {_NO_MEMORY}",
            "{data}/Good/Good.item: no",
        ),
        (
            "train --model UniSRec --dataset Texts --data_path {data} --sources none --text_columns=title",
            "{data}/Texts/Texts.item: there is no column title, only item_id, text; ",
        ),
    ],
    "GPU": [
        *_all("--device=cuda", "--device is cuda, but PyTorch sees no GPU; "),
        (f"{_TRAIN} --gpu_id=0", "--gpu_id is 0, but PyTorch sees no GPU; "),
    ],
    "values of RecBole's keys": [
        (f"{_TRAIN} --device=cpu:5", "--device is cpu:5; "),
        *(
            (f"{_TRAIN} --clip_grad_norm={{{{'{name}':{value}}}}}", f"--clip_grad_norm has {name} {shown}; use a f")
            for name, value, shown in [
                ("max_norm", "x", "x"),
                ("max_norm", ".nan", "nan"),
                ("max_norm", ".inf", "inf"),
                ("max_norm", "-1", "-1"),
                ("max_norm", "True", "True"),
                ("max_norm", "9" * 400, "9" * 57 + "..."),
            ]
        ),
        (f"{_TRAIN} --clip_grad_norm={{{{'foo':1}}}}", "--clip_grad_norm has foo; use {{max_norm: 1.0}}, "),
        (f"{_TRAIN} --clip_grad_norm={{{{}}}}", "--clip_grad_norm has max_norm None; use a finite float > 0"),
        (f"{_TRAIN} --clip_grad_norm={{{{'max_norm':1,'norm_type':0}}}}", "--clip_grad_norm has norm_type 0; use a fl"),
        (f"{_TRAIN} --log_wandb=True", "--log_wandb is True, but wandb is not installed; "),
        (f"{_TRAIN} --state=LOUD", "--state is LOUD; "),
        (f"{_TRAIN} --user_inter_num_interval=5", "--user_inter_num_interval is 5, "),
        (f"{_TRAIN} --item_inter_num_interval=[5,4)", "--item_inter_num_interval is [5,4), which is no interval; "),
        (f"{_TRAIN} --val_interval=abc", "--val_interval is abc; use a dict or nothing"),
        (
            f"{_TRAIN} --val_interval={{{{'timestamp':abc}}}}",
            "{data}/Good/Good.inter: val_interval has 'abc' for timestamp, ",
        ),
        (
            f"{_TRAIN} --val_interval={{{{'item_id':abc}}}}",
            "{data}/Good/Good.inter: val_interval has 'abc' for item_id, ",
        ),
        (
            f"{_TRAIN} --alias_of_item_id=[x]",
            "--alias_of_item_id has x, which is no column of names that load_col reads",
        ),
        (f"{_TRAIN} --alias_of_item_id=[timestamp]", "--alias_of_item_id has timestamp, which is no column of names"),
        (
            f"{_TRAIN} --ITEM_LIST_LENGTH_FIELD=user_id",
            "--ITEM_LIST_LENGTH_FIELD makes a second user_id beside that of",
        ),
        (f"{_TRAIN} --USER_ID_FIELD=item_id", "--USER_ID_FIELD: ITEM_ID_FIELD makes a second item_id beside that of"),
        (f"{_TRAIN} --LIST_SUFFIX=", "--LIST_SUFFIX is empty; use a name such as _list"),
        (f"{_TRAIN} --TIME_FIELD=", "--TIME_FIELD is empty; use a name such as timestamp"),
        (
            f"{_TRAIN} --load_col={{{{'inter':[user_id,item_id,timestamp,nope]}}}}",
            "{data}/Good/Good.inter:1: no column nope",
        ),
        (
            f"{_TRAIN} --load_col={{{{'inter':[user_id,item_id,timestamp],'foo':[a]}}}}",
            "--load_col has foo, which no fil",
        ),
        *(
            (f"train --model SASRec --dataset Good --data_path {{data}} {words}", message)
            for words, message in [
                ("--device=cpu:5", "--device is cpu:5; use cpu or cuda"),
                ("--log_wandb=True", "--log_wandb is True, but wandb is not installed; "),
                ("--LIST_SUFFIX=", "--LIST_SUFFIX is empty; "),
                ("--load_col={{'inter':[user_id,item_id,timestamp,nope]}}", "{data}/Good/Good.inter:1: no column nope"),
            ]
        ),
    ],
    "sizes": [
        (f"{_TRAIN} --source_negatives=100000000000000", "--source_negatives is 100000000000000; "),
        (
            f"{_TRAIN} --target_negatives={10**23}",
            f"--target_negatives is {10**23}; use an int >= 0, at most 2147483647",
        ),
        (f"{_TRAIN} --embedding_size={10**12}", f"--embedding_size is {10**12}; use an int in [1, 65536]"),
        (
            f"{_TRAIN} --MAX_ITEM_LIST_LENGTH={10**21}",
            f"--MAX_ITEM_LIST_LENGTH is {10**21}; use an int in [2, 1000000]",
        ),
        (f"{_TRAIN} --seed=4294967296", "--seed is 4294967296; use an int in [0, 4294967295]"),
        (f"{_TRAIN} --epochs={'9' * 400}", "--epochs is 9999"),
        (f"{_TRAIN} --learning_rate={'9' * 400}", "--learning_rate is 9999"),
    ],
    "checkpoint": [
        ("recommend {bad}/truncated.pth --user u", "{bad}/truncated.pth: truncated, or not a checkpoint of this "),
        ("recommend {bad}/empty.pth --user u", "{bad}/empty.pth: truncated, or not a checkpoint of this package; "),
        ("recommend {bad}/text.pth --user u", "{bad}/text.pth: truncated, or not a checkpoint of this package; "),
        (
            "recommend {bad}/hostile.pth --user u",
            "{bad}/hostile.pth: a pickle, as models of RecBole's own ",
        ),
        ("recommend {bad}/foreign.pth --user u", "{bad}/foreign.pth: not a checkpoint of this package; "),
        ("recommend {bad}/other-model.pth --user u", "{bad}/other-model.pth: of another model: "),
        ("recommend {bad}/other-shape.pth --user u", "{bad}/other-shape.pth: item_embedding.weight is "),
        ("recommend {bad}/other-network.pth --user u", "{bad}/other-network.pth: "),
        ("recommend {bad}/recbole-model.pth --user u", "{bad}/recbole-model.pth: "),
        ("recommend {bad}/no-items.pth --user u", "{bad}/no-items.pth: holds no item names; "),
        ("recommend {bad}/no-weights.pth --user u", "{bad}/no-weights.pth: "),
        ("recommend {bad} --user u", "{bad}/model.pth: no such checkpoint; "),
        ("neighbours {bad}", "{bad}: no model.pth in it; "),
        ("neighbours {torn}", "{torn}/model-last.pth: truncated, or not a checkpoint of this package; "),
    ],
    "slips of the command line": [
        (f"{_TRAIN} --epochs three", "--epochs is three; use an int >= 0"),
        (f"{_TRAIN} --epochs", "Option '--epochs' requires an argument; see recbole-metarec train --help"),
        (f"{_TRAIN} --epochs=3 --epochs=4", "--epochs: given twice, as 3 and as 4; "),
        (f"{_TRAIN} --topk=[5", "--topk: [5 is not a YAML value; "),
        (
            "sweep --tuned temperature=0.1,1",
            "--tuned: temperature=0.1,1 is neither the URL of a storage nor a YAML file; put --tuned last",
        ),
        ("leaderboard --tuned Good", "--tuned: Good is neither the URL of a storage nor a YAML file; "),
        (_TUNE + " --storage nowhere", "--storage: nowhere is not the URL of a storage; "),
        ("--versoin", "--versoin: not an option of recbole-metarec; did you mean --version?"),
    ],
    "unknown user or item": [
        ("recommend {run} --user Good-u700", "unknown user 'Good-u700': not in {data}/Good/Good.inter; did you mean"),
        ("recommend {run} --history Good-1,Good-99", "unknown item 'Good-99': the model was trained without it; did"),
        ("recommend {run} --history ,", "the history is empty: "),
        ("recommend {run} --user Good-u7 --k 0", "--k: 0 "),
        ("neighbours {run} --items Good-99", "--items: Good-99 is an item of none of these sources; "),
    ],
}
