#!/bin/busybox sh
# The guest's first process: loads what the root needs, puts the host's root under a writable layer, hands over to init.py there.
# Its words come from the kernel's command line: vm.python (interpreter), vm.init (that script).
/bin/busybox --install -s /bin
export PATH=/bin
give_up() {
    echo "vm: $1"
    dmesg | tail -n 20
    poweroff -f
}
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for word in $(cat /proc/cmdline); do
    case $word in
    vm.python=*) python=${word#*=} ;;
    vm.init=*) init=${word#*=} ;;
    esac
done
while read -r module; do insmod "/modules/$module" || give_up "module $module cannot be loaded"; done </modules/order
readonly9p=trans=virtio,version=9p2000.L,ro,cache=loose,msize=512000
mount -t 9p -o "$readonly9p" host /host || give_up "no root of the host"
mount -t 9p -o "$readonly9p" layer /layer || give_up "no layer"
mount -t tmpfs -o mode=755,size=75% tmpfs /writable || give_up "no tmpfs"
mkdir /writable/upper /writable/work
mount -t overlay -o lowerdir=/layer:/host,upperdir=/writable/upper,workdir=/writable/work overlay /root || give_up "no overlay"
mkdir -p /root/proc /root/sys /root/dev /root/run
mount -t tmpfs -o mode=755 tmpfs /root/run
mkdir /root/run/vm
mount -t 9p -o trans=virtio,version=9p2000.L,rw,cache=none,msize=512000 share /root/run/vm || give_up "no share"
for each in proc sys dev; do mount --move "/$each" "/root/$each"; done
exec switch_root /root "$python" -SI "$init"
