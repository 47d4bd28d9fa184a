#!/bin/sh
# Replaces a script with `docker run --privileged tonistiigi/binfmt`, `docker buildx create --use` and a `docker buildx build`
# or `docker run --platform` for each platform. For any CI system that gives a shell and a Docker daemon:
#     ci.sh [test|build|all]
set -eu

# Where the CI system keeps files between runs.
cache=${KILN_CI_CACHE:-$HOME/.cache/kiln-ci}

run_tests() {
    kiln test
}

run_build() {
    kiln build --cache-from "type=local,src=$cache" --cache-to "type=local,dest=$cache,mode=max"
    (cd dist && sha256sum --check SHA256SUMS)
}

case ${1:-all} in
    test) run_tests ;;
    build) run_build ;;
    all)
        # Both at once, and both to their ends; a failure of either is a failure.
        run_tests &
        tests=$!
        run_build &
        build=$!
        code=0
        wait "$tests" || code=1
        wait "$build" || code=1
        exit $code
        ;;
    *)
        echo "usage: $0 [test|build|all]" >&2
        exit 2
        ;;
esac
