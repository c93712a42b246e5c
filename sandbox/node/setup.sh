# Prepares the node's own mount namespace. Run once, by process 1 of that namespace, as root: sh -eu setup.sh STATE
#
# The node sees the machine's files, except where it writes: there it gets a directory of its own that shows the machine's
# entries next to the node's. So the node leaves nothing in /run, /opt, /var/lib and /var/log of the machine.
state=$1

mount -t tmpfs -o mode=755 serin-run /run
mkdir -p /run/serin /run/lock

own_copy() { # DIRECTORY NAMES-NOT-TO-SHOW…
  directory=$1
  shift
  machine=/run/machine$directory
  mkdir -p "$machine"
  mount --rbind "$directory" "$machine"
  mount -t tmpfs -o mode=755 serin-own "$directory"
  for entry in "$machine"/* "$machine"/.[!.]*; do
    name=${entry##*/}
    case " $* " in *" $name "*) continue ;; esac
    if [ -d "$entry" ] && [ ! -L "$entry" ]; then
      mkdir "$directory/$name"
      mount --rbind "$entry" "$directory/$name"
    elif [ -e "$entry" ]; then
      ln -s "$entry" "$directory/$name"
    fi
  done
}

own_copy /opt serin
own_copy /var/lib kubelet containerd cni
own_copy /var/log pods containers

for name in kubelet containerd cni; do
  mkdir -p "$state/$name" "/var/lib/$name"
  mount --bind "$state/$name" "/var/lib/$name"
done
mkdir -p "$state/pods" /var/log/pods /var/log/containers
mount --bind "$state/pods" /var/log/pods

# Pods may ask for mounts that travel between them and the node.
mount --make-rshared /

ip link set lo up
for setting in net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0; do
  printf '%s' "${setting#*=}" >"/proc/sys/$(printf '%s' "${setting%=*}" | tr . /)"
done
