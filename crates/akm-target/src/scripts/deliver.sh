# deliver DIR: the state of a node comes as a tar archive on standard input, and becomes DIR/state unless a node is there.
dir=$1
state=$dir/state
umask 077

if [ -e "$state/identity" ]; then
    # It arrived before; whose it is, the stack tells. Who sent it may have been cut off before it was durable.
    cat >/dev/null
    make_durable "$dir"
    exit 0
fi
arriving=$dir/run/.arriving
rm -rf "$arriving" && mkdir -m 700 "$arriving" || fail unwritable "$arriving"
tar -xmof - -C "$arriving" || {
    rm -rf "$arriving"
    fail upload "$arriving"
}
[ -f "$arriving/identity" ] || {
    rm -rf "$arriving"
    fail damaged identity
}
chmod -R go-rwx "$arriving" && chmod 700 "$arriving" || fail unwritable "$arriving"
find "$arriving" -type f | while read -r file; do make_durable "$file"; done
sync
# Nobody's: there is no identity in it. A counter that was made in a TPM is known from here alone.
if [ -e "$state/element.tpm" ]; then
    "$dir/current/akmd" reset --force --dir "$dir" </dev/null >/dev/null || fail failed 'akmd reset'
fi
rm -rf "$state" || fail unwritable "$state"
mv -T "$arriving" "$state" || fail unwritable "$state"
make_durable "$dir"
