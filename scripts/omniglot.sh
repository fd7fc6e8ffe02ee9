#!/usr/bin/env bash
# Every model of results/models: bash scripts/omniglot.sh DIR, where DIR holds images_background and
# images_evaluation. Some five hours on two cores, and about as many for the token VAE; what is there already is not made
# again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$(realpath "${1:?name the folder that holds images_background and images_evaluation}")
metagen="${VENV:-$PWD/.venv}/bin/metagen"

fit() { # the name of a run, more options
  [ -d "runs/$1/export" ] || "$metagen" fit --config "configs/${1/-//}.yaml" --data.root "$root" --overwrite "${@:2}"
}
evaluate() { # model, shots, tasks, a jointly trained model
  local out="runs/$1/evaluation-$2-shot-$3" queries=14
  [ "$2" = 10 ] && queries=10 # a character has 20 images
  [ -f "$out/result.json" ] || "$metagen" evaluate --model "runs/$1/export" --data.root "$root" --data.shots "$2" \
    --data.queries "$queries" --limit "$3" --baselines true --joint "runs/$4/export" --out "$out"
}

models="omniglot-redraw omniglot-redraw-maml omniglot-vae-maml omniglot-vae-fomaml omniglot-vae-reptile"
for model in omniglot-vae-joint $models; do fit "$model"; done
for shots in 1 5 10; do
  for model in $models; do
    joint=omniglot-vae-joint
    [[ $model == *redraw* ]] && joint=omniglot-redraw # trained without steps is trained jointly
    evaluate "$model" "$shots" 100 "$joint"
  done
done
for run in "omniglot-redraw 1" "omniglot-redraw-maml 1" "omniglot-redraw-maml 5"; do # every test character
  evaluate ${run% *} ${run#* } 473 omniglot-redraw
done

# The model that travels as omniglot, as far as a CPU gets: a tokenizer, a prior over its codes, and how it samples.
fit omniglot-tokenizer
fit omniglot-token-vae --choose_sampling false # but on val characters below
tuned=omniglot-token-vae-tuned
[ -d "runs/$tuned/export" ] || "$metagen" tune --model runs/omniglot-token-vae/export --data.root "$root" \
  --out "runs/$tuned/export"
for run in "1 100" "5 100" "10 100" "1 473"; do # trained without steps is trained jointly
  evaluate "$tuned" ${run% *} ${run#* } "$tuned"
done

study() { # model, studies, queries
  local out="runs/$1/studies"
  [ -f "$out/result.json" ] || "$metagen" evaluate --model "runs/$1/export" --data.root "$root" --extractor none \
    --data.queries "$3" --curve '[]' --baselines true --metrics "$2" --out "$out"
}
for model in omniglot-vae-maml-binary omniglot-set-vae-binary; do
  fit "$model"
  study "$model" '[log_likelihood, cost]' 10
done
study omniglot-redraw '[gain, cost]' 14
study omniglot-redraw-maml '[gain, cost]' 14

# The classical recipe, on 1200 characters: gradients of a small network, principal components, a start set by them.
part=(--data.root "$root" --data.partition random1200)
[ -d runs/random1200-joint/export ] || "$metagen" fit --config configs/omniglot/vae-joint.yaml "${part[@]}" \
  --run_dir runs/random1200-joint --overwrite
[ -d runs/omniglot-vae-classical/export ] || "$metagen" fit --config configs/omniglot/vae-classical.yaml "${part[@]}" \
  --model.initial runs/random1200-joint/export --overwrite
[ -d runs/random1200-report ] || "$metagen" train-extractor --data.task_set omniglot "${part[@]}" --data.size 28 \
  --data.channels 1 --steps 1200 --seed 1 --out runs/random1200-report
out=runs/omniglot-vae-classical/evaluation
[ -f "$out/result.json" ] || "$metagen" evaluate --model runs/omniglot-vae-classical/export "${part[@]}" \
  --data.queries 14 --limit 100 --baselines true --joint runs/random1200-joint/export \
  --extractor runs/random1200-report --out "$out"

# A conditional GAN: does it hear of its support?
fit omniglot-vae-gan-conditional
out=runs/omniglot-vae-gan-conditional/evaluation
[ -f "$out/result.json" ] || "$metagen" evaluate --model runs/omniglot-vae-gan-conditional/export --data.root "$root" \
  --data.queries 14 --limit 100 --curve '[]' --baselines false --out "$out"
