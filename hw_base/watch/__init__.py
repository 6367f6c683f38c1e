"""Why a training goes wrong, in one line: small watchers that look at the loop at logged steps."""
