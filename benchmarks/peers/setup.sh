#!/usr/bin/env bash
# Make the virtual environment of one peer: benchmarks/peers/setup.sh PEER [FOLDER]
# PEER is bergson, dattri-llm, kronfluence or less; it ends up in FOLDER/PEER (default .peers, or $PEERS).
set -euo pipefail

peer=${1:?which peer: bergson, dattri-llm, kronfluence or less}
folder=${2:-${PEERS:-.peers}}
common="transformers==5.23.0 peft==0.21.2 accelerate==1.15.0 numpy==2.4.6"
case $peer in
bergson) packages="bergson==2.5.1" ;;
# opt-einsum is what torch's einsum plans with: without it dattri's products of single tokens are many times slower.
dattri-llm) packages="dattri-llm[attribution,transformers]==0.1.0 dattri==0.3.0 opt-einsum==3.4.0" ;;
kronfluence) packages="kronfluence==1.0.1" ;;
less) packages="traker==0.3.2 setuptools" ;;
*) echo "no such peer: $peer" >&2 && exit 2 ;;
esac

"${PYTHON:-python3.11}" -m venv "$folder/$peer"
pip="$folder/$peer/bin/python -m pip"
# The CPU build of torch comes first, and holds: no later package may pull the CUDA libraries.
$pip install --quiet "torch==2.13.0" ${TORCH_INDEX:+--index-url "$TORCH_INDEX"}
echo "torch==$("$folder/$peer/bin/python" -c 'from importlib.metadata import version; print(version("torch"))')" >"$folder/$peer/constraints.txt"
# shellcheck disable=SC2086
$pip install --quiet --constraint "$folder/$peer/constraints.txt" $common $packages
# Built for CUDA, they don't load beside this torch, and transformers imports them where they are installed.
$pip uninstall --quiet --yes torchvision torchaudio
$pip freeze >"$folder/$peer/freeze.txt"
