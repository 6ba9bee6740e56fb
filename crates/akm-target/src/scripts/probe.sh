# probe DIR ID MANIFEST_SHA256: what is here. ID may be empty; else: is that release here already, and whole?
dir=$1
id=$2
manifest=$3

say system "$(uname -s)"
say machine "$(uname -m)"
say user "$(id -u)"
if [ -d /run/systemd/system ] && has systemctl; then say systemd yes; else say systemd no; fi

missing=
for tool in cat chmod find ln mkdir mv readlink rm sha256sum sync tar; do
    has "$tool" || missing="$missing $tool"
done
say missing "${missing# }"

say dir "$(kind_of "$dir")"
if [ -d "$dir/state" ]; then say state yes; else say state no; fi
if [ -L "$dir/current" ] && has readlink; then
    current=$(readlink "$dir/current")
    say release "${current#releases/}"
fi

place=$(nearest "$dir")
say place "$place"
if has df; then
    say free "$(df -kP "$place" 2>/dev/null | {
        read -r line
        read -r _ _ _ free _
        printf '%s' "$free"
    })"
fi

if [ -n "$id" ] && [ -z "$missing" ] && [ -d "$dir/releases/$id" ]; then
    if is_good "$dir/releases/$id" "$manifest"; then
        ask_version "$dir/releases/$id"
        say held whole
        say version "$version"
    else
        say held damaged
    fi
fi
