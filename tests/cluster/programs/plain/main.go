// The one program of an image that has no shell and nothing else: plain OUT CODE [ARGUMENT...]
//
// It writes its arguments to the file OUT, one a line, says where it wrote them, and ends with CODE.
package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: plain OUT CODE [ARGUMENT...]")
		os.Exit(2)
	}
	code, err := strconv.Atoi(os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	text := strings.Join(os.Args[3:], "\n") + "\n"
	if err := os.WriteFile(os.Args[1], []byte(text), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("wrote", os.Args[1])
	os.Exit(code)
}
