"""How the project makes its own records: run from a clone, never in the wheel.

`pip install -e '.[dev]'` puts it on Python's path, and so does PYTHONPATH=benchmarks. Each command is
`python -m lab.NAME`, says `--help`, and knows no other:

    own                  every CPU record of benchmarks/results (`make bench`)
    cold_start           gan-gen and a bare torch script, from process start to picture
    end_to_end           the same for a folder of PNG files
    beside               this checkout and another one of the project, the same commands
    scaling              gan-gen for several numbers of images
    jobs                 gan-gen's jobs in shards: speed, memory, parts, and Ray
    job_faults           gan-gen's jobs under kill -9
    families             known generators at full size: export, and images/s beside PyTorch
    forms                the forms of transposed convolutions, layer by layer
    train_speed          gan-train beside the classic DCGAN loop
    beside_trainers      gan-train and other people's training programs, for equally long
    training             the record of a training run
    recipes              recipes trained on equal budgets
    odds                 how often gan-export reads a generator right: trains examples as strangers write them, fits
                         what evidence counts, checks how often the odds are right
    sizes                the project's files, lines and importers, and what a command runs through
    serve_load           gan-serve with many clients, beside KServe's server
    ship                 a checkpoint becomes the model that ships (`make default-model`)

What they are made of: `processes` (whole commands timed beside each other), `loops` (training loops in turn),
`checkerboard` (the pattern of transposed convolutions), `lively_models`, `training_command`, and `shared`: options,
environment, outputs.
"""
