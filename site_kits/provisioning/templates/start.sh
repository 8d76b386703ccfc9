#!/usr/bin/env bash
# Brings this site up and keeps it up. Stop it with Ctrl-C. The one command of the kit.
# The first time with the link of the invitation: ./start.sh LINK
# With a word it does that instead: ./start.sh status | doctor | register | requests | peers | console-password |
# service | leave
#
# CONSILIUM_PIN           the PIN of the invitation, where nobody sits to type it
# CONSILIUM_PYTHON        a Python >= 3.11 that already has consilium; nothing is installed then
# CONSILIUM_DEVICE        where training runs: auto (default: a GPU with CUDA, else the processor), cpu,
#                         cuda or cuda:1 (the GPU that nvidia-smi numbers so)
# CONSILIUM_MIN_FREE_MB   free disk space asked for before an installation (default 4096)
# CONSILIUM_CONSOLE_PORT  where the operator's console listens, on this machine only
# CONSILIUM_INFERENCE_PORT, _HOST, _URL   where predictions listen, and the address browsers are told
set -u

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" > /dev/null 2>&1 && pwd)"
cd "$here" || exit 2

case "${LC_ALL:-${LC_MESSAGES:-${LANG:-en}}}" in zh*) chinese=1 ;; *) chinese=0 ;; esac
say() { if [ "$chinese" = 1 ]; then printf '%s\n' "$2"; else printf '%s\n' "$1"; fi; }
refuse() { say "$1" "$2" >&2; exit 2; }

# ask_pin: before the installation, so that nobody has to wait for the question
ask_pin() {
  [ -z "${CONSILIUM_PIN:-}" ] && [ -t 0 ] && [ ! -e flare/startup/client.crt ] || return 0
  root="$(sed -n 's/.*"root_fingerprint_sha256": *"\([0-9a-f]*\)".*/\1/p' site.json | sed 's/..../& /g')"
  say "This kit trusts the federation with the root $root" "本安装包信任的联邦根证书指纹：$root"
  say "Type the PIN only if the administrator reads the same to you by telephone." \
    "只有当管理员在电话里读出的指纹与此一致时，才输入 PIN 码。"
  terminal="$(stty -g)"
  trap 'stty "$terminal"; exit 130' INT TERM HUP
  stty -echo # before the question: what is typed or pasted right after it must not be seen
  say "PIN (nothing is shown while you type):" "PIN 码（输入时不显示）："
  read -r CONSILIUM_PIN
  code=$?
  stty "$terminal"
  trap - INT TERM HUP
  [ "$code" = 0 ] || refuse "No PIN was typed; nothing was done." "未输入 PIN，未做任何操作。"
  export CONSILIUM_PIN
}

check_complete() {
  for part in site.json rootCA.pem constraints.txt flare/startup/sub_start.sh flare/local; do
    [ -e "$part" ] || refuse \
      "This folder is not a complete kit: $part is missing. Unpack the whole zip and start start.sh inside it." \
      "此文件夹中的安装包不完整：缺少 $part。请解压整个 zip，然后在其中运行 start.sh。"
  done
  case "$here" in
    *[[:space:]\'\"\\]*)
      refuse "The path $here has spaces or quotes, which training cannot use. Move or rename the folder." \
        "路径 $here 含有空格或引号，训练程序无法使用。请移动或重命名文件夹。"
      ;;
  esac
  [ -w . ] || refuse "This folder cannot be written to. Move it to a place you own." \
    "无法写入此文件夹，请把它移到您有写权限的位置。"
}

# is_usable PYTHON: new enough
is_usable() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' > /dev/null 2>&1; }

find_python() {
  for candidate in python3.12 python3.11 python3.13 python3; do
    if is_usable "$candidate" && "$candidate" -c 'import ensurepip, venv' > /dev/null 2>&1; then
      command -v "$candidate"
      return
    fi
  done
  refuse "Python 3.11 or newer with venv is needed. Install it (Debian, Ubuntu: apt install python3-venv) or set CONSILIUM_PYTHON." \
    "需要 Python 3.11 或更高版本（含 venv）。请先安装（Debian/Ubuntu：apt install python3-venv），或设置 CONSILIUM_PYTHON。"
}

check_disk() {
  needed="${CONSILIUM_MIN_FREE_MB:-4096}"
  case "$needed" in '' | *[!0-9]*) needed=4096 ;; esac
  free="$(df -Pk . 2> /dev/null | awk 'NR == 2 { print int($4 / 1024) }')"
  [ "${free:-0}" -ge "$needed" ] || refuse \
    "Only ${free:-0} MB are free on this disk; the installation needs $needed MB. Make room or move this folder, then start again." \
    "磁盘仅剩 ${free:-0} MB，安装需要 $needed MB。请清理磁盘或移动此文件夹后重试。"
}

# quietly LOG COMMAND…: run it, output to LOG, ended together with this script
quietly() {
  log="$1"
  shift
  "$@" >> "$log" 2>&1 &
  child=$!
  trap 'kill "$child" 2> /dev/null; wait "$child" 2> /dev/null; say "Stopped." "已停止。"; exit 130' INT TERM HUP
  wait "$child"
  code=$?
  trap - INT TERM HUP
  return "$code"
}

install_here() {
  wheel="$(ls wheel/consilium-*.whl 2> /dev/null | sort | tail -n 1)"
  [ -n "$wheel" ] || refuse "wheel/consilium-….whl is missing. Unpack the whole zip again." \
    "缺少 wheel/consilium-….whl，请重新解压整个 zip。"
  if [ -x venv/bin/python ] && [ "$(cat venv/.complete 2> /dev/null)" = "$wheel" ]; then return; fi
  check_disk
  base="$(find_python)" || exit 2
  mkdir -p logs
  : > logs/install.log
  say "First start: installing into $here/venv. This takes some minutes." \
    "首次启动：正在安装到 $here/venv，需要几分钟。"
  where=()
  if [ -d wheelhouse ]; then where=(--no-index --find-links wheelhouse); fi
  if ! { quietly logs/install.log "$base" -m venv --clear venv &&
    quietly logs/install.log venv/bin/python -m pip install --disable-pip-version-check --no-input \
      ${where[@]+"${where[@]}"} -c constraints.txt "$wheel[site]"; }; then
    refuse "The installation did not succeed. The reason stands at the end of logs/install.log; usually the network or a proxy (set https_proxy) is missing. Then start again." \
      "安装未成功，原因见 logs/install.log 末尾；通常是网络或代理问题（可设置 https_proxy）。解决后请重新运行。"
  fi
  printf '%s\n' "$wheel" > venv/.complete
}

check_complete
chmod u+x start.sh 2> /dev/null # unpacked by a tool that keeps no modes
case "${1:-}" in http://* | https://*) set -- run "$@" ;; esac
if [ "${1:-}" = run ] && [ $# -gt 1 ]; then ask_pin; fi
if [ -n "${CONSILIUM_PYTHON:-}" ]; then
  python="$CONSILIUM_PYTHON"
  is_usable "$python" || refuse "CONSILIUM_PYTHON=$python is not a Python 3.11 or newer." \
    "CONSILIUM_PYTHON=$python 不是 Python 3.11 或更高版本。"
  (cd / && "$python" -P -c 'import site_kits.agent') > /dev/null 2>&1 || refuse \
    "CONSILIUM_PYTHON=$python has no consilium installed. Unset CONSILIUM_PYTHON and start.sh installs it here." \
    "CONSILIUM_PYTHON=$python 中未安装 consilium。取消设置 CONSILIUM_PYTHON 后，start.sh 会自动安装。"
else
  install_here
  python="$here/venv/bin/python"
fi
[ $# -gt 0 ] || set -- run
exec "$python" -P -m site_kits.agent --home "$here" "$@"
