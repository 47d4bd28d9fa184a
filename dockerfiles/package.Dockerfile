# The image of a finished program, as `kiln package --format image` makes it.
#
# kiln lays out the files: a folder for each platform with the program, and `common` with what all of them have. Nothing runs,
# so any machine makes the image of any platform. kiln adds what depends on the settings: a writable /tmp where the base has
# none, the user's home folder, ports, user, folder and command.
ARG BASE=alpine:3.20
FROM ${BASE}
ARG TARGETOS TARGETARCH TARGETVARIANT
COPY ${TARGETOS}_${TARGETARCH}${TARGETVARIANT:+_${TARGETVARIANT}}/ /
COPY common/ /
