"""What shapes and BatchNorms leave open, as whole generators: all that a file may be, each with its odds.

An author writes one activation throughout, one eps, one way of upsampling. So the open choices of a draft are not taken
one by one: `listing` lists whole generators, each with what it takes to write it; the discriminator
(`discriminator`), the look of the images (`naturalness`) and habit say how likely each is; `odds` puts these together.
"""
