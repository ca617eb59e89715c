#!/usr/bin/env bash
# Compiles proto/ into services/rpc. protoc writes absolute imports rooted at the proto folder
# ("from mien.v1 import ..."); they are moved below services.rpc, where the files live.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
PATH="$(dirname "$("$python" -c 'import sys; print(sys.executable)')"):$PATH"
out=services/rpc
rm -rf "$out/mien" "$out/inference"
"$python" -m grpc_tools.protoc -I proto \
    --python_out="$out" --grpc_python_out="$out" --mypy_out="quiet:$out" --mypy_grpc_out="quiet:$out" \
    proto/mien/v1/*.proto proto/inference/*.proto
find "$out/mien" -name '*.py*' -exec sed -i -E \
    's/^from mien\.v1 import/from services.rpc.mien.v1 import/; s/^import mien\.v1\./import services.rpc.mien.v1./; s/\bmien\.v1\.([a-z_]+_pb2)\b/services.rpc.mien.v1.\1/g; s/\bservices\.rpc\.services\.rpc\./services.rpc./g' {} +
find "$out/inference" -name '*.py*' -exec sed -i -E \
    's/^from inference import/from services.rpc.inference import/; s/^import inference\./import services.rpc.inference./; s/\binference\.([a-z_]+_pb2)\b/services.rpc.inference.\1/g; s/\bservices\.rpc\.services\.rpc\./services.rpc./g' {} +
# tritonclient, kserve and others register the same message names in protobuf's default pool, which
# takes each name once. In a pool of its own this copy can be imported beside theirs.
sed -i 's/_descriptor_pool\.Default()/_descriptor_pool.DescriptorPool()/' "$out/inference/grpc_inference_pb2.py"
grep -q '_descriptor_pool\.DescriptorPool()' "$out/inference/grpc_inference_pb2.py"
for package in mien mien/v1 inference; do
    printf '"""Generated from proto/; see proto/generate.sh."""\n' > "$out/$package/__init__.py"
done
