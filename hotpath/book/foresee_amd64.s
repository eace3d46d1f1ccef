#include "go_asm.h"
#include "textflag.h"

// func foresee(b *Book, levels *event.Level, n int)
TEXT ·foresee(SB), NOSPLIT, $0-24
	MOVQ	b+0(FP), DI
	MOVQ	levels+8(FP), SI
	MOVQ	n+16(FP), DX
	MOVQ	(Book_grid+grid_shift)(DI), CX
	MOVQ	(Book_grid+grid_inverse)(DI), R8

level:
	// The place: px >> shift * inverse ^ flip, and its slot.
	MOVBLZX	const_levelSide(SI), BX
	MOVQ	const_levelPx(SI), AX
	DECL	BX
	ANDL	$1, BX
	SARQ	CX, AX
	IMUL3Q	$ladder__size, BX, BX
	IMULQ	R8, AX
	ADDQ	DI, BX
	XORQ	(Book_ladders+ladder_flip)(BX), AX
	MOVQ	(Book_ladders+ladder_slots)(BX), R9
	MOVQ	(Book_ladders+ladder_bits)(BX), R10
	ANDL	$const_windowMask, AX
	PREFETCHT0	(R9)(AX*8)
	SHRL	$6, AX
	PREFETCHT0	(R10)(AX*8)
	ADDQ	$const_levelBytes, SI
	DECQ	DX
	JNZ	level
	RET
