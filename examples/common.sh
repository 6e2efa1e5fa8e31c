# Functions shared by the examples: they echo commands before running them, and access buckets with curl.

export VIRGA_ENDPOINT=${VIRGA_ENDPOINT:-http://127.0.0.1:9400} VIRGA_BUCKETS=${VIRGA_BUCKETS:-http://127.0.0.1:9401}
LONGEST=120

for tool in virga curl jq; do
  command -v "$tool" >/dev/null || { echo "the example needs $tool in PATH; for virga, see what make run prints" >&2; exit 1; }
done
if [ -z "${VIRGA_DATA:-}${VIRGA_SECRET_ID:-}" ]; then
  echo "the example needs VIRGA_DATA, the server's data directory, or VIRGA_SECRET_ID and VIRGA_SECRET_KEY" >&2
  exit 1
fi

virga() { command virga "$@" --text; }

step() {
  echo "\$ $*"
  "$@"
}

# Prints the key pair for curl's standard input. Every local user could read it on the command line.
key_pair() {
  if [ -n "${VIRGA_SECRET_ID:-}" ]; then
    echo "user = \"$VIRGA_SECRET_ID:$VIRGA_SECRET_KEY\""
  else
    jq -r '"user = \"\(.secret_id):\(.secret_key)\""' "$VIRGA_DATA/credentials.json"
  fi
}

# s3 PATH [CURL OPTIONS…]: sends a request to the bucket server; fails on an error response.
s3() {
  local path=$1
  shift
  key_pair | curl --config - --silent --show-error --fail --noproxy '*' --aws-sigv4 aws:amz:ap-guangzhou:s3 \
    --header 'x-amz-content-sha256: UNSIGNED-PAYLOAD' "$@" "$VIRGA_BUCKETS/$path"
}

# bucket NAME: creates a bucket unless it exists.
bucket() {
  s3 "$1" --head --output /dev/null 2>/dev/null || s3 "$1" --request PUT
  echo "bucket $1 exists"
}

# wait_for WHAT FUNCTION COMMAND…: polls until the command succeeds. On a timeout, prints the function's last log and fails.
wait_for() {
  local what=$1 function=$2 begun=$SECONDS
  shift 2
  until "$@" >/dev/null 2>&1; do
    if [ $((SECONDS - begun)) -gt $LONGEST ]; then
      echo "timed out waiting for $what; last log of $function:" >&2
      virga logs "$function" --last 1 >&2
      exit 1
    fi
    sleep 0.2
  done
}
