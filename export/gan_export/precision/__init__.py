"""Lower precision: graph passes that trade exactness for speed or size, each held to limits of its own by the proof.

    float16   weights and arithmetic in float16, what float16 cannot hold in float32; or weights saved as float16 alone
    int8      static QDQ: layers between the first and the last in 8-bit integers

Unlike `gan_export.passes` they change what is drawn, a little, and look at what the generator really computes: the
ranges of its activations on latents of its own law. (docs/precision.md)
"""
