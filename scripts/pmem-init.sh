#!/machine/busybox sh
# Process 1 of the machine of pmem-vm.mjs: devices of emulated persistent memory, then one command, then the end.
#
#   /machine     busybox, kernel modules, this file     the machine's own
#   /machine/run what to do: the host's words           shared by the host, read-only
#   /usr         programs of the host                   shared, read-only
#   the project  at its own path                        shared, read-only

M=/machine
$M/busybox mkdir -p $M/bin $M/run /usr /etc /proc /sys /dev /run /tmp /root /mnt
$M/busybox --install -s $M/bin
export PATH=$M/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/shm /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs tmp /tmp
mount -t devpts devpts /dev/pts
ln -s /proc/self/fd /dev/fd
for name in bin sbin lib lib64; do ln -s usr/$name /$name; done
ln -s /proc/mounts /etc/mtab

end() { sync; poweroff -f; sleep 60; }
fail() { echo "plinth: $*" >/dev/console; end; }
must() { "$@" >$M/log 2>&1 || { cat $M/log >/dev/console; fail "failed: $*"; }; }

for module in $(cat $M/modules); do insmod $M/$module 2>$M/log || fail "$module: $(cat $M/log)"; done

# A folder of the host, named by its tag, at a path of the machine.
share() {
  mkdir -p "$2"
  mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose "$1" "$2" || fail "no share $1"
}
share run $M/run
while read -r tag path; do share $tag "$path"; done <$M/run/shares
. $M/run/settings
ifconfig lo 127.0.0.1 up

port() {
  for tries in $(seq 200); do
    for each in /sys/class/virtio-ports/*; do
      [ "$(cat $each/name 2>/dev/null)" = "$1" ] && { echo /dev/${each##*/}; return; }
    done
    sleep 0.05
  done
  fail "no port $1"
}
exec 8>$(port plinth.output) 9>$(port plinth.status)
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:$M/bin

# Labels let several namespaces share a region; without them the kernel makes one of all of it.
if [ "$(cat /sys/bus/nd/devices/region0/nstype)" = 4 ]; then
  must ndctl disable-region region0
  must ndctl init-labels nmem0
  must ndctl enable-region region0
fi

# Prints "node" of the namespace with a name; nothing when there is none.
node_of() {
  for each in /sys/bus/nd/devices/namespace*; do
    [ "$(cat $each/alt_name 2>/dev/null)" = "$1" ] || continue
    ndctl list -N -n ${each##*/} | sed -n 's/.*"\(chardev\|blockdev\)":"\([^"]*\)".*/\2/p' | head -n 1
  done
}
# One namespace for each device, unless the memory has it from an earlier life: MODE or MODE:ALIGN.
PMEM_DEVICES= number=0
for device in $DEVICES; do
  mode=${device%%:*} align=${device#*:} kind=$mode
  case $mode in ext4dax) kind=fsdax ;; pmem) kind=raw ;; esac
  [ "$align" != "$device" ] && [ $kind != raw ] && align="-a $align" || align=
  node=$(node_of plinth-$number)
  if [ -z "$node" ]; then
    must ndctl create-namespace -f -r region0 -m $kind -n plinth-$number -s $NAMESPACE_BYTES $align
    node=$(node_of plinth-$number)
  fi
  [ -e "/dev/$node" ] || fail "no device for $device"
  path=/dev/$node
  if [ $mode = ext4dax ]; then
    path=/mnt/pmem$number
    mkdir -p $path
    blkid /dev/$node | grep -q ext4 || must mkfs.ext4 -q -b 4096 -m 0 -E nodiscard /dev/$node
    must mount -t ext4 -o dax /dev/$node $path
  fi
  PMEM_DEVICES="$PMEM_DEVICES $device=$path"
  number=$((number + 1))
done
export PMEM_DEVICES HOME=/root LANG=C.UTF-8

echo started >&9
cd "$FOLDER" && sh $M/run/command </dev/null >&8 2>&8 9>&-
echo "status $?" >&9
cd /
umount -a -t ext4
end
