# SPDX-License-Identifier: LGPL-2.1-or-later
#
# zsh -f complete.zsh DIRECTORY LINE...: what zsh makes of each LINE when the tab key is struck at its end,
# with the completions in DIRECTORY. One line out for each in. A zsh of its own at a terminal of its own: keys
# are read in the order in which they are sent, so nothing here depends on time.

zmodload zsh/zpty || exit 77
directory=$1
shift

zpty shell zsh -f -i
# patience PATTERN: reads until it comes. What does not come within a minute does not come.
integer end=$((SECONDS + 60 * $#))
patience() {
        local piece
        text=
        while [[ $text != ${~1} ]]; do
                if zpty -r -t shell piece; then
                        text+=$piece
                elif (( SECONDS > end )); then
                        print -u2 "complete.zsh: this is all that came: $text"
                        exit 1
                else
                        sleep 0.02
                fi
        done
}

zpty -w shell "PROMPT= RPROMPT= fpath=(${(q)directory} \$fpath)"
zpty -w shell 'zstyle ":completion:*" menu no; setopt no_beep no_always_last_prompt'
zpty -w shell 'LISTMAX=10000; unsetopt auto_list auto_menu'
zpty -w shell 'autoload -Uz compinit && compinit -u -D'
zpty -w shell 'show() { print -r -- "<""<<$BUFFER>>"">"; BUFFER= }; zle -N show; bindkey "^X" show'
zpty -w shell 'bindkey "^I" complete-word; print "<""<<ready>>"">"'
patience '*<<<ready>>>*'
for line; do
        zpty -w -n shell "$line"$'\t\x18'
        patience '*<<<*>>>*'
        print -r -- "${${text##*<<<}%%>>>*}"
done
zpty -d shell
