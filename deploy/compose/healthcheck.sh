#!/bin/bash
# Exits 0 when the service whose admin port is $1 says that it is ready. The image has no HTTP client, and
# needs none for one line.
exec 3<>"/dev/tcp/127.0.0.1/${1:?which port?}" || exit 1
printf 'GET /readyz HTTP/1.0\r\n\r\n' >&3
IFS= read -r -t 2 status <&3
[[ $status == HTTP/1.*\ 200\ * ]]
