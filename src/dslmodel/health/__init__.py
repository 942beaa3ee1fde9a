"""Health: what was measured and found in, one number with its parts out.

Takes the window's ratios and the scores of open findings. Gives a `Health`. Owns nothing. Never looks at spans, never guesses: what is not
known has no part in the number.
"""
