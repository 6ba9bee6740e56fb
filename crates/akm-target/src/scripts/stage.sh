# stage DIR ID MANIFEST_SHA256: the files come as a tar archive on standard input, and become releases/ID once proved.
dir=$1
id=$2
manifest=$3
releases=$dir/releases

case $(kind_of "$dir") in
foreign) fail occupied "$dir" ;;
owned) fail owned "$dir" ;;
blocked) fail blocked "$(nearest "$dir")" ;;
esac

# Another ceremony at the same device may make the same directories at the same time.
[ -d "$dir" ] || mkdir -p "$dir" || fail unwritable "$dir"
[ -d "$releases" ] || mkdir -m 755 "$releases" || [ -d "$releases" ] || fail unwritable "$releases"
for private in state run; do
    private=$dir/$private
    [ -d "$private" ] || mkdir -m 700 "$private" || [ -d "$private" ] || fail unwritable "$private"
done
chmod go-w "$dir" "$releases" && chmod 700 "$dir/state" "$dir/run" || fail unwritable "$dir"

# Each try has a place of its own: the end of one that was cut off must not harm the next. The name ends in the
# process that works there, in that directory; where none does, it goes.
for old in "$releases"/.staging-*; do
    [ "/proc/${old##*.}/cwd" -ef "$old" ] || rm -rf "$old" || fail unwritable "$releases"
done
stage=$releases/.staging-$id.$$
mkdir -m 755 "$stage" && cd "$stage" || fail unwritable "$stage"

tar -xmof - -C "$stage" || {
    rm -rf "$stage"
    fail upload "$stage"
}
for file in "$stage"/*; do
    [ -f "$file" ] && [ ! -L "$file" ] || continue
    case ${file##*/} in
    akmd) chmod 755 "$file" ;;
    *) chmod 644 "$file" ;;
    esac
done
make_durable "$stage"/* "$stage"

is_good "$stage" "$manifest" || {
    found=$damage
    rm -rf "$stage"
    fail damaged "$found"
}
ask_version "$stage"

if [ -d "$releases/$id" ]; then
    # Damaged, and perhaps what `current` points to: repaired file by file, so that it is never absent.
    for entry in "$releases/$id"/* "$releases/$id"/.[!.]* "$releases/$id"/..?*; do
        case ${entry##*/} in
        akmd | akmd.toml | akmd.service | manifest) [ ! -d "$entry" ] || rm -rf "$entry" ;;
        *) rm -rf "$entry" ;;
        esac
    done
    for file in akmd akmd.toml akmd.service manifest; do
        mv -fT "$stage/$file" "$releases/$id/$file" || fail unwritable "$releases/$id/$file"
    done
    cd / && rm -rf "$stage"
    is_good "$releases/$id" "$manifest" || fail damaged "$damage"
else
    # A try that was left behind may have come first.
    mv -T "$stage" "$releases/$id" || is_good "$releases/$id" "$manifest" || fail unwritable "$releases/$id"
    cd / && rm -rf "$stage"
fi
make_durable "$releases/$id" "$releases" "$dir" "$dir/.."
say version "$version"
