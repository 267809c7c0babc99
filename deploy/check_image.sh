#!/usr/bin/env bash
# Builds the Dockerfile and tries the image where no registry of images can be reached.
#
#   sudo apt-get install --no-install-recommends debootstrap podman runc
#   sudo deploy/check_image.sh [FOLDER]     # FOLDER, /var/tmp unless given, needs 20 GB for a while
#
# Podman builds the Dockerfile as it stands. Only its base image is stood in for: by Debian's own
# Python of the same release, made with debootstrap. Then containers run from the image, without a
# network and without capabilities, and nothing is left behind. The machine's settings for apt, pip
# and certificates are mounted while it builds, and are no part of the image.
#
# Untested remain: the real base image (its Python is newer by a patch release) and a GPU.
# Where images can be pulled, `make image` builds the same.
set -euo pipefail
cd "$(dirname "$0")/.."

for program in debootstrap podman runc; do
    command -v "$program" > /dev/null || { echo "check_image: install $program first" >&2; exit 2; }
done
test "$(id -u)" = 0 || { echo "check_image: debootstrap needs root" >&2; exit 2; }

work=$(mktemp --directory "${1:-/var/tmp}/gait-image.XXXXXX")
export TMPDIR=$work
engine() {
    podman --root "$work/storage" --runroot "$work/run" --storage-driver overlay \
        --runtime runc --cgroup-manager cgroupfs "$@"
}
clean_up() {
    engine rm --all --force > /dev/null 2>&1 || true
    umount "$work/storage/overlay" 2> /dev/null || true
    rm --recursive --force "$work"
}
trap clean_up EXIT

passed=0
check() { # NAME COMMAND...: one line a check; its output only if it fails
    local name=$1
    shift
    "$@" > "$work/output" 2>&1 || { cat "$work/output" >&2; echo "FAILED: $name" >&2; exit 1; }
    passed=$((passed + 1))
    echo "ok: $name"
}

base=$(sed --quiet 's/^FROM //p' Dockerfile)
[[ $base =~ ^python:3\.11\.[0-9]+-slim-([a-z]+) ]] || {
    echo "check_image: cannot stand in for the base image $base" >&2
    exit 2
}
echo "base: $base, by debootstrap ${BASH_REMATCH[1]}"
debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv \
    "${BASH_REMATCH[1]}" "$work/base" > "$work/output" || { tail "$work/output" >&2; exit 1; }
ln --symbolic /usr/bin/python3 "$work/base/usr/local/bin/python"
rm --recursive --force "$work"/base/var/{cache/apt/archives/*,lib/apt/lists/*}
tar --create --directory "$work/base" --exclude='./dev/*' . | engine import --quiet - "$base"
rm --recursive --force "$work/base"

# The build context, so that a line of code can be changed in it; .dockerignore cuts it down.
mkdir "$work/context"
git ls-files --cached --others --exclude-standard | grep --invert-match '^results/' \
    | tar --create --files-from=- | tar --extract --directory "$work/context"
echo 'PASSWORD=1' > "$work/context/.env"

apt-config dump | grep '^Acquire::' > "$work/apt.conf" || true
printf 'system-certs = true\n' > "$work/uv.toml"
mounts=(--volume "$work/apt.conf:/etc/apt/apt.conf.d/99host:ro" --volume "$work/uv.toml:/etc/uv/uv.toml:ro")
for file in /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do
    test ! -e "$file" || mounts+=(--volume "$file:$file:ro")
done
build() {
    engine build --format docker --pull=never --network host --isolation chroot --layers \
        "${mounts[@]}" --tag gait --build-arg COMMIT=abc1234 "$work/context"
}

echo "building"
SECONDS=0
check "the Dockerfile builds" build
echo "built in $SECONDS s, $(engine image inspect --format '{{.Size}}' gait | numfmt --to=si)B"
echo '# changed' >> "$work/context/pipeline/__init__.py"
rebuilt() {
    build > "$work/rebuild" 2>&1 && ! grep --quiet 'torch==' "$work/rebuild" &&
        grep --quiet 'gait==' "$work/rebuild" || { cat "$work/rebuild"; return 1; }
}
check "a change of code reinstalls no dependency" rebuilt

limits=(--ulimit nofile=16384:16384 --ulimit nproc=4096:4096)
locked=(--rm --network none --cap-drop all --security-opt no-new-privileges "${limits[@]}")
inside() { engine run "${locked[@]}" gait "$@"; }
check "its command shows the help" inside
check "it is an ordinary user's" inside sh -c 'test "$(id -u):$(id -g)" = 1000:1000'
check "everything imports" inside python -c \
    'import gaitprop, pipeline, torch, torchvision, ray, mlflow, boto3, psycopg'
check "torch is built for CUDA" inside python -c 'import torch; assert torch.version.cuda'
check "git, rsync and wget are there" inside sh -c 'git --version && rsync --version && wget --version'
check "login shells find the commands" inside bash --login -c 'command -v gait ray mlflow dvc'
check "the pipeline begins" inside sh -c 'gait download && dvc stage list'
check "a model trains" inside sh -c 'gait download && sed -i "s/epochs: 60/epochs: 1/" params.yaml &&
    gait train digits square gait && test -s models/digits/digits/square/gait/network.safetensors'
check "no secrets and no history came along" inside sh -c 'test ! -e .env && test ! -e .git'
check "no development tools" inside sh -c '! command -v pytest && ! command -v mypy && ! command -v hadolint'
check "no caches are left" engine run "${locked[@]}" --user 0 gait sh -c \
    'test ! -e /root/.cache && test ! -e /home/gait/.cache && test -z "$(ls /var/lib/apt/lists)"'
check "its commit is known" inside sh -c 'test "$GAIT_COMMIT" = abc1234'

run=(--detach --network none --cap-drop all --security-opt no-new-privileges "${limits[@]}")
# Without systemd podman says that nobody will call the healthchecks; this script does.
engine run "${run[@]}" --name idle gait sleep infinity > "$work/output" 2>&1
check "healthy without Ray" engine healthcheck run idle
engine run "${run[@]}" --name head --shm-size 512m \
    --env RAY_AUTH_MODE=token --env RAY_AUTH_TOKEN=0123456789abcdef0123456789abcdef \
    gait ray start --head --num-cpus=1 --dashboard-host=0.0.0.0 --block > "$work/output" 2>&1
answers() { # COMMAND...: within two minutes
    for _ in $(seq 60); do "$@" && return 0 || sleep 2; done
    engine logs head
    return 1
}
from_head() { engine exec head "$@"; }
check "a Ray head becomes healthy" answers engine healthcheck run head
for address in 8265/api/gcs_healthz 52365/api/local_raylet_healthz; do
    check "KubeRay's probe of $address, without a token" answers \
        from_head sh -c "wget --tries 1 -T 2 -q -O- http://127.0.0.1:$address | grep success"
done
check "a job runs in the project's folder" from_head ray job submit --address http://127.0.0.1:8265 \
    -- sh -c 'test "$PWD" = /app && gait --help'
refused() {
    ! engine exec --env RAY_AUTH_TOKEN=wrong head \
        ray job submit --address http://127.0.0.1:8265 -- true
}
check "a job with a wrong token is refused" refused
engine exec head python -c \
    'import psutil; [p.kill() for p in psutil.process_iter() if p.name() == "raylet"]'
unhealthy() { ! engine healthcheck run head; }
check "a head whose raylet is gone is not healthy" answers unhealthy
echo "$passed passed, 0 failed"
