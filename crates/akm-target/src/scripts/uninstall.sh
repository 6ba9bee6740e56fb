case $(kind_of "$dir") in
ours) ;;
owned) fail owned "$dir" ;;
*) exit 0 ;;
esac
stop_unit
stop_program
if with_systemd && [ -e "$units/$unit" ]; then
    systemctl disable "$unit" >/dev/null 2>&1
    rm -f "$units/$unit" || fail unwritable "$units/$unit"
    systemctl daemon-reload || fail failed 'systemctl daemon-reload'
fi
# `current` goes last: while it is there, what is left is known to be ours.
rm -rf "$dir/state" "$dir/run" "$dir"/.current-* || fail unwritable "$dir"
rm -rf "$dir/releases" || fail unwritable "$dir/releases"
rm -f "$dir/current" || fail unwritable "$dir/current"
rmdir "$dir" 2>/dev/null
say removed yes
