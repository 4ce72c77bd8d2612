#!/usr/bin/env bash
# A shared store in a bucket: results are pushed, pulled elsewhere, and verified by digest on arrival; what was damaged
# or is not whole there does not arrive. Needs a server that speaks S3, `moto_server` by default: pip install 'moto[server]'.
#   tests/bucket.sh [MOTO_SERVER]
set -euo pipefail
cd "$(dirname "$0")/.."
moto=${1:-moto_server}
port=${PORT:-5123}
work=$(mktemp -d)
trap 'kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT
cargo build -p rote --features bucket --target-dir target/bucket
mkdir "$work/bin"
cp target/bucket/debug/rote "$work/bin/"
ln target/debug/rote-{prepare,extract,capture} "$work/bin/" 2>/dev/null || cp target/debug/rote-{prepare,extract,capture} "$work/bin/"
cp -r data/demo/gpt_neox "$work/model"
head -n 48 data/demo/records.jsonl >"$work/records.jsonl"
cat >"$work/few.toml" <<'TOML'
[prepare]
model = "model"
sequences = "records.jsonl"
prefix = 32
suffix = 32
[extract]
model = "model"
requests = "prepare"
controls = true
# One file of more than one piece.
[capture]
model = "model"
requests = "prepare.request"
hook = ["logits"]
TOML
cd "$work"

"$moto" -H 127.0.0.1 -p "$port" >server.log 2>&1 &
server=$!
export AWS_ENDPOINT="http://127.0.0.1:$port" AWS_ALLOW_HTTP=true AWS_REGION=us-east-1
export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test
for _ in $(seq 100); do curl -s -o /dev/null "$AWS_ENDPOINT" && break; sleep 0.1; done
s3() { curl -sf -H "Content-Type: application/octet-stream" --aws-sigv4 aws:amz:us-east-1:s3 --user test:test "$@"; }
s3 -X PUT "$AWS_ENDPOINT/shared" -o /dev/null

rote() { bin/rote "$@"; }
fail() { echo "bucket: $1"; exit 1; }
# Fails with a message that holds $1.
refuses() { local expected=$1; shift; rote "$@" >out 2>&1 && fail "no refusal: $*"; grep -q -- "$expected" out || { cat out; fail "no word of: $expected"; }; }
contents() { for node in prepare extract capture; do grep -o '"content_id": "[0-9a-f]*"' "$1/view/few/$node/artifact.json" | head -n 1; done; }
remote=s3://shared/some/place

rote run few.toml --store here --quiet
size=$(du -bL here/view/few/capture/activation/hook=logits/block=-1/part-00000.parquet | cut -f 1)
[ "$size" -gt 16777216 ] || fail "$size bytes are one piece"
refuses "no such\|NoSuchBucket\|not found\|NotFound" push few.toml --store here --remote s3://nowhere/x
# Two at once, then nothing is left to do.
rote push few.toml --store here --remote "$remote" >first & one=$!
rote push few.toml --store here --remote "$remote" >second
wait $one
rote push few.toml --store here --remote "$remote" | grep -q '^0 results copied, .* 3 of 3 are there$' || fail "pushed twice"

rote pull few.toml --store there --remote "$remote" | grep -q '^3 results copied, .* 3 of 3 are there$' || fail "not pulled"
rote run few.toml --store there 2>&1 | grep -q "nothing to do: 3 nodes are fresh" || fail "ran again"
rote verify --store there | grep -q ", 0 damaged$" || fail "not whole"
[ "$(contents here)" = "$(contents there)" ] || fail "content differs"

# What was damaged there does not arrive here, whichever file it is.
key=$(basename "$(readlink here/view/few/prepare)")
at="$AWS_ENDPOINT/shared/some/place/${key:0:2}/$key"
for name in /request/part-00000.parquet /artifact.json /run.json .seal .key; do
    s3 "$at$name" -o object
    python3 -c 'b = bytearray(open("object", "rb").read()); b[len(b) // 2] ^= 1; open("flipped", "wb").write(b)'
    s3 -X PUT --data-binary @flipped "$at$name" -o /dev/null
    rm -rf third
    refuses "prepare: " pull few.toml --store third --remote "$remote"
    [ -z "$(find third -name artifact.json)" ] || fail "a damaged $name arrived"
    s3 -X PUT --data-binary @object "$at$name" -o /dev/null
done
# A push that was interrupted: the manifest, which is the last of a result, is missing.
s3 "$at/artifact.json" -o object
s3 -X DELETE "$at/artifact.json"
rote pull few.toml --store fourth --remote "$remote" | grep -q '^0 results copied, .* 0 of 3 are there$' || fail "half a result arrived"
rote push few.toml --store here --remote "$remote" | grep -q '^1 results copied, ' || fail "not made whole"
rote pull few.toml --store fourth --remote "$remote" | grep -q '^3 results copied, ' || fail "not pulled again"
rote verify --store fourth | grep -q ", 0 damaged$" || fail "not whole again"
kill "$server"
refuses "s3://shared/some/place" pull few.toml --store fifth --remote "$remote"
echo "bucket: 3 results pushed and pulled, the largest of $size bytes; 5 damaged files refused; content ids as of rote run"
