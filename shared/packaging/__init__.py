"""From bundles to a bento that was asked, and the Dockerfile of its image: what `percept package` does.

`plan` says what goes in, `store` keeps bundles under BentoML's tags, `build` has BentoML build, `smoke` serves what was
built and asks it, `sizes` weighs it, `dockerfile` renders the image's recipe. No bento holds any of it.
"""
