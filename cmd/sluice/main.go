// Command sluice is the edge in one binary: an L4 load balancer and an L7 API gateway. What it does is in package cli, where a
// main with filters of its own finds it, too: see cmd/example.
package main

import "sluice/cmd/cli"

func main() { cli.Main(nil) }
