"""Config keys that say where or how a run is done and not what it finds."""

THIS_MACHINE = frozenset(
    (
        "checkpoint_dir",
        "data_path",
        "dataloaders_save_path",
        "device",
        "gpu_id",
        "group_offset",
        "ip",
        "local_rank",
        "log_wandb",
        "nproc",
        "offset",
        "port",
        "save_dataloaders",
        "seed",
        "show_progress",
        "state",
        "use_gpu",
        "wandb_project",
        "worker",
        "world_size",
    )
)
