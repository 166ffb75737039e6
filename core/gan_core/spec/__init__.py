"""A generator as data: an interface and a chain of layers (`gan_core.spec.generator_spec.GeneratorSpec`)."""
