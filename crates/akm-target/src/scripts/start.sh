[ -x "$dir/current/akmd" ] || fail absent "$dir"
[ -d "$dir/run" ] || mkdir -m 700 "$dir/run" || fail unwritable "$dir/run"
if with_systemd; then
    held=$units/.$unit.$$
    cat "$dir/current/akmd.service" >"$held" && mv -fT "$held" "$units/$unit" || {
        rm -f "$held"
        fail unwritable "$units/$unit"
    }
    systemctl daemon-reload || fail failed 'systemctl daemon-reload'
    systemctl is-active --quiet "$unit" || stop_program
    # This start is asked for, whatever became of the one before: where it cannot be it fails, and does not wait.
    rm -f "$dir/run/supervised"
    began=$(date +%s)
    # Returns when the stack has said that it is ready.
    if ! systemctl enable "$unit" >/dev/null || ! systemctl restart "$unit" || ! systemctl is-active --quiet "$unit"; then
        # What the stack said itself; where it did not come so far, what systemd says of it.
        if has journalctl; then
            journalctl --sync 2>/dev/null
            journal="journalctl -q --no-pager -o cat -n 5 --since @$began"
            said=$($journal _SYSTEMD_UNIT="$unit" 2>/dev/null) && [ -n "$said" ] || said=$($journal -u "$unit" 2>/dev/null)
            printf '%s\n' "$said" >&2
        fi
        # A unit that restarts itself for ever helps nobody who was just told that it failed.
        systemctl stop "$unit" >/dev/null 2>&1
        fail failed "systemctl restart $unit"
    fi
    say unit "$unit"
else
    stop_program
    # A start that was left behind may have come first, with the same program.
    akmd_quietly run --detach || { [ $? = 3 ] && akmd_quietly status; } ||
        fail failed "akmd run --dir $dir --detach"
fi
