"""Which parts of SENCA-st matter: the paper's Table 4, on your sections."""

from senca_ray.recipe import ablation_command

main = ablation_command(
    name="ablation",
    title="Ablation of SENCA-st (Table 4, and two parts more)",
    explain="""Leave parts of SENCA-st out, one at a time, and compare with the full model.

\b
no attention weights  a neighbourhood's spots all weigh the same
                      (Table 4, "without cross-attention weights")
no hierarchical learning  eq. 1 without its NT-Xent terms
                      (Table 4, "without hierarchical learning")
no image              the image branch is left out, as on a section without
                      an image
no graph              every spot is its own whole neighbourhood

On a section without an image, hierarchical learning and image are not there to leave out, and these two
are not fitted.
""",
)

if __name__ == "__main__":
    main()
