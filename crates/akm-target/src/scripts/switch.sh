# switch DIR ID MANIFEST_SHA256: `current` becomes releases/ID in one step, if that is whole.
dir=$1
id=$2
manifest=$3

is_good "$dir/releases/$id" "$manifest" || fail damaged "$damage"
old=$(readlink "$dir/current" 2>/dev/null)
if [ "$old" = "releases/$id" ]; then
    exit 0
fi

rm -f "$dir"/.current-*
next=$dir/.current-$$
ln -s "releases/$id" "$next" || fail unwritable "$next"
mv -fT "$next" "$dir/current" || {
    rm -f "$next"
    fail unwritable "$dir/current"
}
make_durable "$dir"

for release in "$dir/releases"/*; do
    is_release "${release##*/}" || continue
    case releases/${release##*/} in
    "releases/$id" | "$old") ;;
    *) rm -rf "$release" ;;
    esac
done
say previous "${old#releases/}"
