# One image with both commands: static binaries, no shell, not run as root, and able to run on a read-only file system.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# The version comes from the repository's own history, which is why .git is part of the build context.
RUN git config --global --add safe.directory /src \
 && CGO_ENABLED=0 go build -trimpath -buildvcs=auto -ldflags="-s -w" -o /out/ ./cmd/worker ./cmd/enqueue
RUN mkdir /erasures

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /out/worker /out/enqueue /usr/local/bin/
# A new volume that is mounted here belongs to whom the folder belongs to.
COPY --from=build --chown=nonroot:nonroot /erasures /erasures
USER nonroot:nonroot
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=15s --retries=3 CMD ["/usr/local/bin/worker", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/worker"]
