# Builds Salon, and puts the one program into a small image.
#   docker build -t salon .
#   docker run --rm -p 127.0.0.1:8080:8080 -v salon-data:/data salon

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p salon-cli

FROM debian:bookworm-slim
# Certificates for https to Telegram and to models, bubblewrap for the cells of coding agents, curl for the health check.
RUN apt-get update \
 && apt-get install -y --no-install-recommends bubblewrap ca-certificates curl \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --user-group --uid 10001 --home-dir /data --shell /usr/sbin/nologin salon \
 && install -d -m 700 -o salon -g salon /data
COPY --from=build /src/target/release/salon /usr/local/bin/salon

USER salon
WORKDIR /data
VOLUME /data
# Inside the container all addresses; publish the port to this machine or to your proxy only.
ENV SALON_LISTEN=0.0.0.0:8080 \
    SALON_DATA=/data \
    SALON_BOTS=/data/bots.yaml
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
    CMD ["curl", "--fail", "--silent", "--show-error", "--output", "/dev/null", "http://127.0.0.1:8080/healthz"]
ENTRYPOINT ["salon"]
CMD ["serve"]
